// Package overload tests a node that is given more than it can take: its memory must stay within node.memory,
// nothing may be refused, and every record must be in its table once when the flood is over.
//
// The tests start real processes of their own binary: one that is a Kafka cluster with its producers, and one for
// each node. What counts is what the kernel says of a node's process (VmHWM), because a collector's figures leave
// out what the collector itself takes. A disk is slowed down in the node's process, by a file system that lets
// so many bytes a second through.
package overload
