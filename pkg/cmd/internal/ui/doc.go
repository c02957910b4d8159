// Package ui is all that the commands print: failures, progress on a terminal and in a log, lines of talk.
// Whatever comes from a cluster is escaped here and nowhere else.
package ui
