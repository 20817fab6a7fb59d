package rpc

// WithDefaults is withDefaults, for the test that no number is forgotten.
func WithDefaults(c Config) Config { return c.withDefaults() }

// Asks says of a service who may ask a contract.
func Asks() func(remote string) (done func(), ok bool) { return new(service).asks }
