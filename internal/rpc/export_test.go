package rpc

// WithDefaults is withDefaults, for the test that no number is forgotten.
func WithDefaults(c Config) Config { return c.withDefaults() }
