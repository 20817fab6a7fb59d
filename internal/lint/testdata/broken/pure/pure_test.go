package pure

import "os"

// Tests of pure rooms may do what they like.
var stderr = os.Stderr
