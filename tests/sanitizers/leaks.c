/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What LeakSanitizer asks before it looks for leaks. leaks.py sets it. */

int leaks_expected;

int __lsan_is_turned_off(void);

int
__lsan_is_turned_off(void)
{
    return leaks_expected;
}
