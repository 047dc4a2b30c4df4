package postgres

import "time"

// ForgetFloors has the next scan from the bottom walk up from the very bottom, as it does every few seconds. Tests call
// it after they have set clocks back behind the store's back.
func (s *Store) ForgetFloors() {
	s.lanes.mu.Lock()
	defer s.lanes.mu.Unlock()
	clear(s.lanes.walks)
}

// SetPing has the channel look sooner whether the server is still there.
func (c *Channel) SetPing(d time.Duration) { c.ping = d }
