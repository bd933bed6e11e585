// SPDX-License-Identifier: GPL-2.0-or-later

// Go's go-nfqueue, used as its documentation does. The arguments are those of common.h.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/florianl/go-nfqueue/v2"
)

const (
	queue         = 1
	maxlen        = 1 << 20
	receiveBuffer = 1 << 29
)

func main() {
	verdicts := map[string]int{"accept": nfqueue.NfAccept, "drop": nfqueue.NfDrop}
	if len(os.Args) < 2 {
		log.Fatal("usage: go-nfqueue accept|drop")
	}
	verdict, known := verdicts[os.Args[1]]
	if !known {
		log.Fatal("usage: go-nfqueue accept|drop")
	}
	queue, err := nfqueue.Open(&nfqueue.Config{
		NfQueue:      queue,
		MaxPacketLen: 0xffff,
		MaxQueueLen:  maxlen,
		Copymode:     nfqueue.NfQnlCopyPacket,
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := queue.Con.SetReadBuffer(receiveBuffer); err != nil {
		log.Fatal(err)
	}
	decide := func(packet nfqueue.Attribute) int {
		if err := queue.SetVerdict(*packet.PacketID, verdict); err != nil {
			log.Fatal(err)
		}
		return 0
	}
	fail := func(err error) int {
		log.Fatal(err)
		return 1
	}
	if err := queue.RegisterWithErrorFunc(context.Background(), decide, fail); err != nil {
		log.Fatal(err)
	}
	fmt.Println("ready")
	select {}
}
