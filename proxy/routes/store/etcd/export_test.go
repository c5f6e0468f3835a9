package etcd

// Abandon ends the store as the death of its process would.
func (s *Store) Abandon() {
	s.once.Do(func() {
		s.cancel()
		s.lease.loop.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.client != nil {
			s.client.Close()
		}
	})
}
