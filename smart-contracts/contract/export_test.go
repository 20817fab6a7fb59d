package contract

// What reads custom messages and queries.
var (
	ReadCustom   = readCustom
	ReadQuestion = readQuestion
)

// Predictable is PredictableAddress of a creator of any length.
var Predictable = predictable
