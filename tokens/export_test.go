package tokens

// EncodeAccount is the writer of account records.
var EncodeAccount = encodeAccount
