// Package query reads tables for people and programs: it parses conditions, asks each tablet's
// replica for the rows of one snapshot, and writes them as text.
package query
