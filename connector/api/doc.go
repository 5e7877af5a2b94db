// Package api is the JSON that a node answers with over HTTP and that the commands print: what
// users and their scripts see. Fields are added, never renamed.
package api
