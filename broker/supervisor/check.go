package supervisor

// Check says what [New] would say of a pool: whether its numbers, its binary, its folder and its user are what they must
// be on this host. It changes nothing.
func (p Pool) Check() error {
	_, err := p.check(defaultStop)
	return err
}

// Check says what [New] would say, and log, of a configuration. It changes nothing.
func (c Config) Check() error {
	_, err := c.check(strict)
	return err
}
