package cosmwasm

// Limits of what contracts say (version 1). They are part of what a chain agrees
// on. CosmWasm leaves most of them to gas.
const (
	MaxResponseBytes = 1 << 20   // of an answer to anything but a query
	MaxQueryBytes    = 64 << 10  // of a query, as the machine has it
	MaxAnswerBytes   = 1 << 20   // of an answer to a query
	MaxMessages      = 256       // of one response
	MaxEvents        = 256       // of one response
	MaxAttributes    = 256       // of one event, and of one response
	MaxTypeBytes     = 128       // of an event
	MaxKeyBytes      = 256       // of an attribute
	MaxValueBytes    = 16 << 10  // of an attribute
	MaxCoins         = 256       // of one list
	MaxOptions       = 4         // of a vote: one of each kind
	MaxMessageBytes  = 512 << 10 // of the message to another contract
	MaxPayloadBytes  = 128 << 10 // that a submessage hands to its reply, as CosmWasm has it
	MaxDataBytes     = 256 << 10 // of a response's data
	MaxSaltBytes     = 64
	MaxAddressBytes  = 256
	MaxDenomBytes    = 128
	MaxLabelBytes    = 128
	MaxTextBytes     = 64 << 10 // of an error, and any other text
)

const (
	maxDepth       = 64  // of objects and lists in each other
	maxFields      = 256 // of one object that is passed over or kept as it is
	maxNameBytes   = 256 // of a field
	maxNumberBytes = 64
	maxElements    = 64 << 10 // of a list that only the chain writes
	minTypeBytes   = 2        // of an event, as CosmWasm's chains have it
)
