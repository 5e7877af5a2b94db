// Package child runs processes that are parts of this one: the nodes of a demo, brokers, what tests start and kill.
//
// A child has a process group of its own, so that Ctrl-C at a terminal reaches it through us, and a signal reaches its own
// children too. On Linux the kernel kills it when we end, whatever ends us; elsewhere nobody does (Guarded).
//
// Each Process has one goroutine, which ends with it. It stays on one thread, since Linux kills a child when the thread that
// started it ends.
package child
