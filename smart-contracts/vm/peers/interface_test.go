package peers

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/CosmWasm/wasmvm/v3/types"

	"github.com/hypermesh/hypermesh/smart-contracts/contract"
)

// rewritten is what one of our kinds of texts is written as after it was read.
func rewritten[T any](read func([]byte) (T, error), write func(T) []byte) func([]byte) ([]byte, error) {
	return func(data []byte) ([]byte, error) {
		v, err := read(data)
		if err != nil {
			return nil, err
		}
		return write(v), nil
	}
}

// interfaces are the kinds of texts, as theirs and as ours.
var interfaces = map[string]struct {
	theirs any
	ours   func([]byte) ([]byte, error)
}{
	"message":             {types.CosmosMsg{}, rewritten(contract.DecodeMessage, contract.EncodeMessage)},
	"query":               {types.QueryRequest{}, rewritten(contract.DecodeQuery, contract.EncodeQuery)},
	"answer":              {types.ContractResult{}, rewritten(contract.DecodeAnswer, contract.EncodeAnswer)},
	"queryanswer":         {types.QueryResult{}, rewritten(contract.DecodeQueryAnswer, contract.EncodeQueryAnswer)},
	"reached":             {types.QuerierResult{}, rewritten(contract.DecodeReached, contract.EncodeReached)},
	"env":                 {types.Env{}, rewritten(contract.Decode[contract.Env], contract.Encode[contract.Env])},
	"info":                {types.MessageInfo{}, rewritten(contract.Decode[contract.MessageInfo], contract.Encode[contract.MessageInfo])},
	"migrateinfo":         {types.MigrateInfo{}, rewritten(contract.Decode[contract.MigrateInfo], contract.Encode[contract.MigrateInfo])},
	"reply":               {types.Reply{}, rewritten(contract.Decode[contract.Reply], contract.Encode[contract.Reply])},
	"supply":              {types.SupplyResponse{}, rewritten(contract.Decode[contract.SupplyAnswer], contract.Encode[contract.SupplyAnswer])},
	"balances":            {types.AllBalancesResponse{}, rewritten(contract.Decode[contract.BalancesAnswer], contract.Encode[contract.BalancesAnswer])},
	"metadata":            {types.DenomMetadataResponse{}, rewritten(contract.Decode[contract.MetadataAnswer], contract.Encode[contract.MetadataAnswer])},
	"allmetadata":         {types.AllDenomMetadataResponse{}, rewritten(contract.Decode[contract.AllMetadataAnswer], contract.Encode[contract.AllMetadataAnswer])},
	"bondeddenom":         {types.BondedDenomResponse{}, rewritten(contract.Decode[contract.BondedDenomAnswer], contract.Encode[contract.BondedDenomAnswer])},
	"validators":          {types.AllValidatorsResponse{}, rewritten(contract.Decode[contract.ValidatorsAnswer], contract.Encode[contract.ValidatorsAnswer])},
	"validator":           {types.ValidatorResponse{}, rewritten(contract.Decode[contract.ValidatorAnswer], contract.Encode[contract.ValidatorAnswer])},
	"delegations":         {types.AllDelegationsResponse{}, rewritten(contract.Decode[contract.DelegationsAnswer], contract.Encode[contract.DelegationsAnswer])},
	"delegation":          {types.DelegationResponse{}, rewritten(contract.Decode[contract.DelegationAnswer], contract.Encode[contract.DelegationAnswer])},
	"withdrawaddress":     {types.DelegatorWithdrawAddressResponse{}, rewritten(contract.Decode[contract.WithdrawAddressAnswer], contract.Encode[contract.WithdrawAddressAnswer])},
	"rewards":             {types.DelegationRewardsResponse{}, rewritten(contract.Decode[contract.RewardsAnswer], contract.Encode[contract.RewardsAnswer])},
	"totalrewards":        {types.DelegationTotalRewardsResponse{}, rewritten(contract.Decode[contract.TotalRewardsAnswer], contract.Encode[contract.TotalRewardsAnswer])},
	"delegatorvalidators": {types.DelegatorValidatorsResponse{}, rewritten(contract.Decode[contract.DelegatorValidatorsAnswer], contract.Encode[contract.DelegatorValidatorsAnswer])},
	"contractinfo":        {types.ContractInfoResponse{}, rewritten(contract.Decode[contract.ContractInfoAnswer], contract.Encode[contract.ContractInfoAnswer])},
	"codeinfo":            {types.CodeInfoResponse{}, rewritten(contract.Decode[contract.CodeInfoAnswer], contract.Encode[contract.CodeInfoAnswer])},
}

// TestInterface: what we write, their types read, and what they write of it, we read
// as the same: no field is lost or has another name on either side.
func TestInterface(t *testing.T) {
	file, err := os.ReadFile("../../contract/testdata/examples.txt")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(file)) {
		name, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if name == "#" {
			continue
		}
		seen[name] = true
		theirs := reflect.New(reflect.TypeOf(interfaces[name].theirs))
		if err := json.Unmarshal([]byte(text), theirs.Interface()); err != nil {
			t.Errorf("%s %s: they do not read it: %v", name, text, err)
			continue
		}
		written, err := json.Marshal(theirs.Elem().Interface())
		if err != nil {
			t.Errorf("%s %s: %v", name, text, err)
			continue
		}
		if got, err := interfaces[name].ours(written); err != nil || string(got) != text {
			t.Errorf("%s %s: they write %s, which we write %s (%v)", name, text, written, got, err)
		}
	}
	for name, pair := range map[string][2][]byte{
		"env":  {contract.Encode(ourEnv), encoded(t, env)},
		"info": {contract.Encode(ourInfo(t, info("fred"))), encoded(t, info("fred"))},
	} {
		if got, err := interfaces[name].ours(pair[1]); err != nil || string(got) != string(pair[0]) {
			t.Errorf("%s: ours is %s, theirs %s (%v)", name, pair[0], got, err)
		}
	}
	if len(seen) != len(interfaces) {
		t.Errorf("examples of %d kinds of %d", len(seen), len(interfaces))
	}
}
