package sdk

// NexusURLs returns the servers that a client would ask.
func NexusURLs(c *Client) []string { return *c.nexus.urls.Load() }
