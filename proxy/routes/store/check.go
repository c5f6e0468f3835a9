package store

import "fmt"

// CheckKey tells whether a key keeps to the limits.
func CheckKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("a key is empty")
	case len(key) > MaxKey:
		return fmt.Errorf("the key %.64q... has %d bytes, and %d are the most", key, len(key), MaxKey)
	}
	return nil
}

// CheckValue tells whether a value keeps to the limits.
func CheckValue(key string, value []byte) error {
	if len(value) > MaxValue {
		return fmt.Errorf("the value of %.64q has %d bytes, and %d are the most", key, len(value), MaxValue)
	}
	return nil
}

// Check tells whether a transaction is one that every engine takes.
func (t Txn) Check() error {
	if n := len(t.If) + len(t.Put) + len(t.Delete); n > MaxTxn {
		return fmt.Errorf("a transaction has %d conditions and changes, and %d are the most; do it in parts", n, MaxTxn)
	}
	total := 0
	seen := make(map[string]bool, len(t.Put)+len(t.Delete))
	change := func(key string) error {
		if err := CheckKey(key); err != nil {
			return err
		}
		if seen[key] {
			return fmt.Errorf("a transaction changes %.64q twice", key)
		}
		seen[key] = true
		total += len(key)
		return nil
	}
	for _, c := range t.If {
		if err := CheckKey(c.Key); err != nil {
			return err
		}
		total += len(c.Key)
	}
	for _, p := range t.Put {
		if err := change(p.Key); err != nil {
			return err
		}
		if err := CheckValue(p.Key, p.Value); err != nil {
			return err
		}
		total += len(p.Value)
	}
	for _, key := range t.Delete {
		if err := change(key); err != nil {
			return err
		}
	}
	if total > MaxBytes {
		return fmt.Errorf("a transaction has %d bytes, and %d are the most; do it in parts", total, MaxBytes)
	}
	return nil
}
