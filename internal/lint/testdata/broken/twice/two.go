// This is the second, and begins badly.
package twice
