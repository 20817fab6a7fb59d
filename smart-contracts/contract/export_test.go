package contract

// Predictable is PredictableAddress of a creator of any length.
var Predictable = predictable
