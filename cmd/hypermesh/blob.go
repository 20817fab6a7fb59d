package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/blob"
	"github.com/hypermesh/hypermesh/sdk"
)

func blobCommand() *cli.Command {
	return &cli.Command{
		Name:  "blob",
		Usage: "put files and directories on a cluster, and get them, encrypted if you like",
		Subcommands: []*cli.Command{
			{
				Name: "put", Usage: "upload a file, or a directory as one blob, and print its digest", ArgsUsage: "PATH",
				Description: "With --recipient it is encrypted here, before anything is sent: the cluster sees neither content nor key.\n" +
					"An upload that was broken off goes on when it is begun again, unless it is encrypted: that gives other bytes each time.\n\n" +
					"Example: hypermesh blob put data --recipient age1… --config net.json",
				Flags: []cli.Flag{
					requiredConfigFlag(),
					&cli.StringSliceFlag{Name: "recipient", Usage: "age `RECIPIENT`, age1…, who can read it; may be given several times"},
					jsonFlag(),
				},
				Action: blobPut,
			},
			{
				Name: "get", Usage: "download a blob to a new file, or unpack it into a directory", ArgsUsage: "DIGEST PATH",
				Description: "Its bytes are checked against the digest. A file stays only if all of them came. What is broken off\n" +
					"stays beside it, as PATH.DIGEST.part, and the same command goes on with that; what is unpacked or decrypted is begun anew.\n\n" +
					"Example: hypermesh blob get 5f3a… result --unpack --identity key.txt --config net.json",
				Flags: []cli.Flag{
					requiredConfigFlag(),
					&cli.StringFlag{Name: "identity", Usage: "key `FILE` that opens an encrypted blob"},
					&cli.BoolFlag{Name: "unpack", Usage: "the blob is a packed directory, such as a job's output: PATH is a directory, new or empty"},
				},
				Action: blobGet,
			},
			{
				Name: "keygen", Usage: "make a key for encrypted blobs, and print its recipient", ArgsUsage: "FILE",
				Description: "The file is one that age reads as well. Whoever loses it cannot read what was encrypted to it.\n\nExample: hypermesh blob keygen key.txt",
				Action:      blobKeygen,
			},
		},
	}
}

func requiredConfigFlag() cli.Flag {
	config := configFlag()
	config.Required = true
	return config
}

// blobClient returns a client of the network that --config describes.
func blobClient(c *cli.Context) (*sdk.Client, error) {
	t, err := openNetwork(c.String("config"))
	if err != nil {
		return nil, err
	}
	return t.client, nil
}

func blobPut(c *cli.Context) (err error) {
	if c.NArg() != 1 {
		return usagef(c, "want one PATH, got %d arguments", c.NArg())
	}
	recipients := c.StringSlice("recipient")
	if len(recipients) > 0 {
		if err := blob.CheckRecipients(recipients); err != nil {
			return usagef(c, "--recipient: %v", err)
		}
	}
	client, err := blobClient(c)
	if err != nil {
		return err
	}
	content, err := openContent(c.Args().First())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	var body io.ReadSeeker = content
	if len(recipients) > 0 {
		sealed, sealErr := sealToFile(content, recipients)
		if sealErr != nil {
			return sealErr
		}
		defer func() { err = errors.Join(err, sealed.Close(), os.Remove(sealed.Name())) }()
		body = sealed
	}
	id, size, err := client.PutBlob(c.Context, body)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c, struct {
			Digest    crypto.Digest `json:"digest"`
			Bytes     int64         `json:"bytes"`
			Encrypted bool          `json:"encrypted"`
		}{id, size, len(recipients) > 0})
	}
	fmt.Fprintln(c.App.Writer, id)
	return nil
}

type readSeekCloser interface {
	io.ReadSeeker
	io.Closer
}

// openContent opens a file, or packs a directory.
func openContent(path string) (readSeekCloser, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading what to put: %w", err)
	}
	if !info.IsDir() {
		return os.Open(path)
	}
	packed, err := packDir(path)
	if err != nil {
		return nil, err
	}
	return struct {
		io.ReadSeeker
		io.Closer
	}{packed, io.NopCloser(nil)}, nil
}

// sealToFile encrypts content into a file that the caller removes: an upload
// reads what it sends twice, and no two encryptions are the same.
func sealToFile(content io.Reader, recipients []string) (f *os.File, err error) {
	sealed, err := blob.Seal(content, recipients)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, sealed.Close()) }()
	f, err = os.CreateTemp("", "hypermesh-sealed-*")
	if err != nil {
		return nil, fmt.Errorf("encrypting: %w", err)
	}
	if _, err := io.Copy(f, sealed); err != nil {
		return nil, errors.Join(fmt.Errorf("encrypting: %w", err), f.Close(), os.Remove(f.Name()))
	}
	return f, nil
}

func readIdentities(path string) (keys blob.Identities, err error) {
	f, err := os.Open(path)
	if err != nil {
		return keys, fmt.Errorf("reading the key: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if keys, err = blob.ParseIdentities(f); err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return keys, err
}

func blobGet(c *cli.Context) (err error) {
	if c.NArg() != 2 {
		return usagef(c, "want a DIGEST and a PATH, got %d arguments", c.NArg())
	}
	id, err := crypto.ParseDigest(c.Args().First())
	if err != nil {
		return usagef(c, "DIGEST: %v", err)
	}
	to := output{dir: c.Args().Get(1)}
	if file := c.String("identity"); file != "" {
		key, err := readIdentities(file)
		if err != nil {
			return err
		}
		to.key = &key
	}
	if c.Bool("unpack") {
		if err := checkOutDir(to.dir); err != nil {
			return usagef(c, "PATH: %v", err)
		}
	}
	client, err := blobClient(c)
	if err != nil {
		return err
	}
	if to.key == nil && !c.Bool("unpack") {
		return to.download(c, client, id)
	}
	r, err := client.GetBlob(c.Context, id, blob.MaxBytes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if c.Bool("unpack") {
		return to.unpack(r)
	}
	return to.write(r)
}

// download gets a blob into a new file, by way of one beside it that stays if the
// download is broken off, and with which the next one goes on.
func (o output) download(c *cli.Context, client *sdk.Client, id crypto.Digest) (err error) {
	if _, err := os.Lstat(o.dir); err == nil {
		return fmt.Errorf("writing the blob: %w", &fs.PathError{Op: "open", Path: o.dir, Err: fs.ErrExist})
	}
	part := o.dir + "." + id.Short() + ".part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("writing the blob: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("writing the blob: %s is being written by another process: %w", part, err)
	}
	r, err := client.ResumeBlob(c.Context, id, f, blob.MaxBytes)
	if err == nil {
		_, err = io.Copy(f, r)
		err = errors.Join(err, r.Close())
	}
	size, sizeErr := f.Seek(0, io.SeekCurrent)
	switch {
	case sizeErr != nil:
		return errors.Join(err, sizeErr)
	case errors.Is(err, sdk.ErrBlob) || err != nil && size == 0: // of no use to go on with
		return errors.Join(fmt.Errorf("writing the blob: %w", err), os.Remove(part))
	case err != nil:
		return fmt.Errorf("writing the blob: %w; %s holds the first %d bytes, and the same command goes on from there", err, part, size)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("writing the blob: %w", err)
	}
	if err := os.Link(part, o.dir); err != nil { // unlike Rename it replaces nothing
		return fmt.Errorf("writing the blob: %w", err)
	}
	return os.Remove(part)
}

// write puts what r gives into a new file, which it removes if not all came.
func (o output) write(r io.Reader) (err error) {
	if o.key != nil {
		if r, err = blob.Unseal(r, *o.key); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(o.dir, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("writing the blob: %w", err)
	}
	_, err = io.Copy(f, r)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("writing the blob: %w", err), os.Remove(o.dir))
	}
	return nil
}

func blobKeygen(c *cli.Context) error {
	if c.NArg() != 1 {
		return usagef(c, "want one FILE, got %d arguments", c.NArg())
	}
	file, recipient, err := blob.NewIdentity()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(c.Args().First(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("writing the key: %w", err)
	}
	_, err = f.WriteString(file)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing the key: %w", err)
	}
	fmt.Fprintln(c.App.Writer, recipient)
	return nil
}
