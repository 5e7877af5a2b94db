// Package simnet is a network in memory for tests: listeners and connections between named hosts, with
// latency, a bandwidth, one-way and two-way partitions, resets, random loss and crashes of a host.
//
// It models TCP as a user of sockets sees it. A partition delays: bytes written into it are kept and arrive
// when it heals, unless a deadline or a keepalive of the user ends the connection first. Loss is what is left
// of it when retransmission gives up: a reset of the connection. Bytes never arrive twice, changed or out of
// order.
//
// Everything blocks on sync.Cond, channels and timers of package time, so that a testing/synctest bubble sees
// it as durably blocked and its clock advances. Nothing sleeps while it holds a lock. There are no goroutines
// here except those of expiring timers.
//
// Lock order: Network.mu, then pipe.mu. A pipe never calls back into the Network while it is locked.
package simnet
