package assembly

// WithoutBlockSizes is withoutBlockSizes.
var WithoutBlockSizes = withoutBlockSizes
