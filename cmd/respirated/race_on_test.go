//go:build race

package main

// raceEnabled makes the programs under test look for races too.
const raceEnabled = true
