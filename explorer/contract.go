package explorer

import (
	"fmt"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// sayContract says what a message about contracts does.
func sayContract(who link, m any) sentence {
	switch m := m.(type) {
	case chain.StoreCode:
		if m.Size > uint64(len(m.Part)) {
			return say(who, fmt.Sprintf(" brings bytes %d to %d of %d of the code of contracts ", m.Offset, m.Offset+uint64(len(m.Part)), m.Size)+m.Checksum.Short())
		}
		return say(who, " stores the code of contracts "+m.Checksum.Short()+", "+counted(len(m.Part), "byte"))
	case chain.InstantiateContract:
		return say(who, fmt.Sprintf(" makes a contract of code %d, ", m.Code)+quoted(m.Label), withFunds(m.Funds))
	case chain.ExecuteContract:
		return say(who, " calls contract ", linkAddress(m.Contract), withFunds(m.Funds))
	case chain.MigrateContract:
		return say(who, " gives contract ", linkAddress(m.Contract), fmt.Sprintf(" the code %d", m.Code))
	case chain.SetContractAdmin:
		if m.Admin == nil {
			return say(who, " makes contract ", linkAddress(m.Contract), " one that nobody changes any more")
		}
		return say(who, " makes ", linkAddress(*m.Admin), " admin of contract ", linkAddress(m.Contract))
	case chain.PinCode:
		return say(who, fmt.Sprintf(" has every node keep code %d in memory for %s more, for at most ", m.Code, counted(int(m.Periods), "day")), m.MaxBurn)
	}
	panic(fmt.Sprintf("explorer: message of type %T", m))
}

func withFunds(a chain.Amount) sentence {
	if a.IsZero() {
		return nil
	}
	return say(", with ", a)
}

// sayContractEvent says what became of code and contracts.
func sayContractEvent(e any) sentence {
	switch e := e.(type) {
	case chain.CodeUploaded:
		return say(linkAddress(e.Uploader), fmt.Sprintf(" brought %d of %d bytes of the code of contracts ", e.Have, e.Size)+e.Checksum.Short())
	case chain.CodeStored:
		return say(linkAddress(e.Creator), fmt.Sprintf(" stored the code of contracts %d, %d bytes; ", e.Code, e.Size), e.Burned, " was burned for the room")
	case chain.ContractInstantiated:
		return say("Contract ", linkAddress(e.Contract), ", "+quoted(e.Label)+fmt.Sprintf(", of code %d was made by ", e.Code), linkAddress(e.Creator), withFunds(e.Funds))
	case chain.ContractExecuted:
		return say("Contract ", linkAddress(e.Contract), " was called by ", linkAddress(e.Sender), withFunds(e.Funds))
	case chain.ContractMigrated:
		return say("Contract ", linkAddress(e.Contract), fmt.Sprintf(" has the code %d instead of %d", e.Code, e.From))
	case chain.ContractAdminSet:
		if e.Admin == nil {
			return say("Contract ", linkAddress(e.Contract), " is not changed by anybody any more")
		}
		return say("Contract ", linkAddress(e.Contract), " has the admin ", linkAddress(*e.Admin))
	case chain.ContractReplied:
		if e.Failure != "" {
			return say("Contract ", linkAddress(e.Contract), fmt.Sprintf(" was told that its message %d failed: ", e.ID)+e.Failure)
		}
		return say("Contract ", linkAddress(e.Contract), fmt.Sprintf(" was told that its message %d took effect", e.ID))
	case chain.ContractEmitted:
		return sayEmitted(&e)
	case chain.ContractStored:
		s := say("Contract ", linkAddress(e.Contract), fmt.Sprintf(" keeps %d bytes", e.Bytes))
		if !e.Paid.IsZero() {
			s = append(s, say("; ", linkAddress(e.Payer), " paid ", e.Paid, " for the room")...)
		}
		if !e.Refunded.IsZero() {
			s = append(s, say("; ", linkAddress(e.Payer), " got ", e.Refunded, " for what became free")...)
		}
		return s
	case chain.ContractBurned:
		return say("Contract ", linkAddress(e.Contract), " burned ", e.Amount)
	case chain.CodePinned:
		return say(fmt.Sprintf("Code %d is kept in memory until %s; ", e.Code, momentOf(e.Until, time.Time{}).Absolute), linkAddress(e.Sender), " burned ", e.Burned, " for it")
	}
	panic(fmt.Sprintf("explorer: event of type %T", e))
}

// sayEmitted tells the first of a contract's words: there may be hundreds.
func sayEmitted(e *chain.ContractEmitted) sentence {
	s := say("Contract ", linkAddress(e.Contract), " says "+e.Type)
	for i, a := range e.Attributes {
		if i == 8 {
			return append(s, word{Text: ", …"})
		}
		s = append(s, word{Text: ", " + a.Key + " = " + quoted(a.Value)})
	}
	return s
}

// appendFromContract appends the accounts of an event of code and contracts.
func appendFromContract(out []chain.Address, e any) []chain.Address {
	switch e := e.(type) {
	case chain.CodeUploaded:
		return append(out, e.Uploader)
	case chain.CodeStored:
		return append(out, e.Creator)
	case chain.ContractInstantiated:
		return append(out, e.Contract, e.Creator)
	case chain.ContractExecuted:
		return append(out, e.Contract, e.Sender)
	case chain.ContractMigrated:
		return append(out, e.Contract, e.Sender)
	case chain.ContractAdminSet:
		return append(out, e.Contract)
	case chain.ContractReplied:
		return append(out, e.Contract)
	case chain.ContractEmitted:
		return append(out, e.Contract)
	case chain.ContractStored:
		return append(out, e.Contract, e.Payer)
	case chain.ContractBurned:
		return append(out, e.Contract)
	case chain.CodePinned:
		return append(out, e.Sender)
	}
	return out
}
