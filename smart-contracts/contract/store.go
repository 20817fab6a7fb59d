package contract

import (
	"crypto/sha256"
	"errors"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/tokens"
)

// store takes a part of code, and makes it callable if that was the last.
func (r *run) store(f *frame, from chain.Address, m *chain.StoreCode) *failure {
	upload, _ := state.Load[Upload](f.layer, UploadKey(from))
	if m.Offset == 0 {
		parts := (upload.Have + chain.MaxCodePart - 1) / chain.MaxCodePart
		if !f.tank.take(parts * (r.env.Prices.Write + r.env.Prices.Insert)) {
			return outOf(f.tank)
		}
		r.forget(f, from, &upload)
		upload = Upload{Checksum: m.Checksum, Size: m.Size}
	}
	if upload.Checksum != m.Checksum || upload.Size != m.Size || upload.Have != m.Offset {
		return fail(spaceWasm, wasmCreate, "part at %d of code %s: of %s there are %d bytes", m.Offset, m.Checksum.Short(), upload.Checksum.Short(), upload.Have)
	}
	upload.Have += uint64(len(m.Part))
	if m.Offset == 0 || upload.Have == upload.Size {
		if why := r.mayOwe(f, m.Checksum); why != nil {
			return why
		}
	}
	p := &r.env.Prices
	if !f.tank.take(2*p.Read + 2*(p.Write+p.Insert) + p.WriteByte*uint64(len(m.Part))) {
		return outOf(f.tank)
	}
	burned, why := r.burnFor(f, from, uint64(len(m.Part)))
	if why != nil {
		return why
	}
	if upload.Have < upload.Size {
		f.layer.Set(partKey(from, byte(m.Offset/chain.MaxCodePart)), slices.Clone(m.Part))
		state.Save(f.layer, UploadKey(from), upload)
		return r.emit(f, chain.CodeUploaded{Uploader: from, Checksum: m.Checksum, Have: chain.Number(upload.Have), Size: chain.Number(m.Size), Burned: burned}, 0)
	}
	return r.complete(f, from, m, burned)
}

// burnFor takes what room costs that is never given back.
func (r *run) burnFor(f *frame, from chain.Address, bytes uint64) (chain.Amount, *failure) {
	cost, _ := chain.Nano(NanoPerByte).ShareFloor(bytes, 1) // a part of a transaction
	if why := tokens.Debit(f.layer, from, cost, r.env.Now); why != nil {
		return cost, fail(spaceSDK, sdkFunds, "%d bytes of room: %s", bytes, why.Reason())
	}
	tokens.Burn(f.layer, cost)
	return cost, nil
}

// forget takes back the parts of an upload.
func (r *run) forget(f *frame, from chain.Address, upload *Upload) {
	for at := uint64(0); at < upload.Have; at += chain.MaxCodePart {
		f.layer.Delete(partKey(from, byte(at/chain.MaxCodePart)))
	}
	f.layer.Delete(UploadKey(from))
}

// complete checks code whose last part has come, and gives it a number.
func (r *run) complete(f *frame, from chain.Address, m *chain.StoreCode, burned chain.Amount) *failure {
	p := &r.env.Prices
	// Each byte is read, hashed, checked, rewritten and written; two records say that it is loaded.
	if !f.tank.take(p.Code + m.Size*(p.CodeByte+p.ReadByte+p.WriteByte) + 2*p.Write + p.Insert) {
		return outOf(f.tank)
	}
	code := make([]byte, 0, m.Size)
	for at := uint64(0); at < m.Offset; at += chain.MaxCodePart {
		part, ok := f.layer.Get(partKey(from, byte(at/chain.MaxCodePart)))
		if !ok {
			panic("contract: an upload lacks a part that it counts")
		}
		code = append(code, part...)
	}
	code = append(code, m.Part...)
	r.forget(f, from, &Upload{Have: m.Offset})
	if sum := crypto.Digest(sha256.Sum256(code)); sum != m.Checksum {
		return fail(spaceWasm, wasmCreate, "the code's checksum is %s, not %s", sum.Short(), m.Checksum.Short())
	}
	module, err := meter.Prepare(code, meter.Capabilities(), meter.WeightsV1())
	if err != nil {
		refusal, ok := errors.AsType[*meter.Refusal](err)
		if !ok {
			panic("contract: an error that is no refusal: " + err.Error())
		}
		return fail(spaceWasm, wasmCreate, "%s", refusal.Error())
	}
	made := Code{Creator: from, Checksum: m.Checksum, Size: m.Size, Callable: r.env.Height + CallableAfter}
	if last, known := state.Load[Loaded](f.layer, LoadedKey(m.Checksum)); known {
		made.Ready = last.Ready
	} else if why := r.add(f, &made, code, module); why != nil {
		return why
	}
	numbers := NumbersOf(f.layer)
	numbers.Codes++
	state.Save(f.layer, NumbersKey(), numbers)
	state.Save(f.layer, CodeKey(numbers.Codes), made)
	return r.emit(f, chain.CodeStored{
		Code: chain.Number(numbers.Codes), Creator: from, Checksum: m.Checksum, Size: chain.Number(m.Size), Callable: chain.Number(made.Callable),
		Wait: chain.Number(made.WaitMs(r.env.ProgressMs)), Burned: burned,
	}, 0)
}

// add keeps code that nobody has stored before, which is to be compiled, and kept.
func (r *run) add(f *frame, made *Code, code []byte, module *meter.Module) *failure {
	p := &r.env.Prices
	if !f.tank.take(p.CodeSpan*module.Spans() + p.load(module.Native()) + p.Write) {
		return outOf(f.tank)
	}
	made.Ready = r.owe(f, p.compiling(made.Size, module))
	f.layer.Set(BytesKey(made.Checksum), code)
	noteLoad(f, made.Checksum, Loaded{Native: module.Native(), Ready: made.Ready})
	return nil
}
