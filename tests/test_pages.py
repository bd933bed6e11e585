# SPDX-License-Identifier: GPL-2.0-or-later
"""Every block of every page is run, and does what the page says."""

import re
import socket
from pathlib import Path

import pytest
from nameserver import serving
from netns import UdpPair, run
from pages import PAGES, ROOT, Reader, anchors, every_link, links

README = ROOT / "README.md"
READ = [pytest.param(page, marks=() if page == README else pytest.mark.slow) for page in PAGES]

MISTAKES = {
    "a language that nobody knows": "```cobol\nSTOP RUN.\n```\n",
    "no language": "```\nwhat is this\n```\n",
    "an indented block": "    what is this\n",
    "another output": "```sh\necho one\n```\n\n```text\ntwo\n```\n",
    "a command that fails": "```sh\nfalse\n```\n",
    "a command that fails, after a program that ends": """```sh
libnetfilterqueue watch 1 --count 1
sleep 1
false
```
""",
    "a test that is not there": "```sh\n./dev test tests/test_nothing.py\n```\n",
    "a capability too few": """```sh
setpriv --inh-caps +net_raw --ambient-caps +net_raw --bounding-set=-all,+net_admin,+net_raw \\
    python -c 'import libnetfilterqueue as nfq; nfq.open().create_queue(1, print)'
```
""",
    "a service without its program": """```ini
# filter.service
[Service]
ExecStart=/opt/python /opt/filter.py
```

```sh
systemctl start filter
```
""",
    "a package that is not there": "```sh\napt install no-such-package\n```\n",
    "another result": "```pycon\n>>> 1 + 1\n3\n```\n",
    "a program that fails": "```python\nraise SystemExit(1)\n```\n",
    "a program that warns": "```python\nimport sys\n\nprint('Warning', file=sys.stderr)\n```\n",
    "a program that lets all pass": """```python
import libnetfilterqueue as nfq

with nfq.open() as handle:  # what is forbidden should not pass
    handle.create_queue(1, nfq.NetfilterQueueData.accept, mode=nfq.NFQNL_COPY_PACKET)
    while True:
        handle.process(timeout=None)
```
""",
    "a test that fails": "```python\ndef test_nothing():\n    assert False\n```\n",
    "a program named like the beginning of another": """```python
# filter.py
raise SystemExit(1)
```

```python
# filter_stream.py
```
""",
    "a program of a service that fails": """```python
# filter.py
raise SystemExit(1)
```

```ini
# filter.service
[Service]
ExecStart=/opt/python /opt/filter.py
```
""",
    "a test that fails, where pytest is named": """```sh
pip install pytest
```

```python
def test_nothing():
    assert False
```
""",
    "a setting that systemd lacks": "```ini\n# x.service\n[Service]\nExecStart=/bin/x\nX=1\n```\n",
}


@pytest.mark.timeout(900)  # a page may have a dozen programs, which take seconds on a busy machine
@pytest.mark.parametrize("page", READ, ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page: Path, tmp_path: Path, udp: UdpPair) -> None:
    """A reader who does what a page says, block by block, sees what it says."""
    run("ip address add 192.0.2.1/32 dev lo")  # with none but 127.0.0.1 resolvers ask for nothing
    with serving(socket.AF_INET):
        Reader(tmp_path, udp).read(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page: Path) -> None:
    """Files that a page links exist, and so do their headings."""
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_long_description() -> None:
    """The README is the package's page on PyPI too, so all of its links are absolute."""
    targets = every_link(README)
    assert targets
    assert [target for target in targets if not re.match("https://|#", target)] == []


@pytest.mark.slow  # as the pages themselves
@pytest.mark.parametrize("text", MISTAKES.values(), ids=MISTAKES)
def test_mistakes(text: str, tmp_path: Path, udp: UdpPair) -> None:
    """A page that is wrong is noticed."""
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises((AssertionError, AttributeError)):
        Reader(tmp_path, udp).read(page)
