package meter

// Valid checks a module as Rewrite does, and one that it has made too.
func Valid(code []byte) error {
	m, err := decodeNamed(code, true)
	if err != nil {
		return err
	}
	_, err = validateAll(m)
	return err
}
