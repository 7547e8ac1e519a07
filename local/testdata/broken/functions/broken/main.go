// Command broken does not build, on purpose.
package main

func main() { thisDoesNotExist() }
