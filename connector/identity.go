package connector

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path"
	"regexp"

	"nyala/store/vfs"
)

const (
	identityFile   = "node.json"
	lockFile       = "LOCK"
	identityFormat = 1
)

var incarnationPattern = regexp.MustCompile(`^[0-9a-f]{8}$`)

// Identity says whose a data directory is. It is written once, before anything else is, and never
// changes: a directory that was lost comes back as another incarnation, so that the node cannot pass
// for its old self, whose acknowledged entries it no longer has.
type Identity struct {
	Format      int    `json:"format"`
	Cluster     string `json:"cluster"`
	Node        string `json:"node"`
	Incarnation string `json:"incarnation"` // 8 hex digits
	Checksum    string `json:"checksum"`    // CRC32C of the rest, 8 hex digits: a flipped bit would be another incarnation
}

func (i Identity) checksum() string {
	sum := crc32.Checksum(fmt.Appendf(nil, "%d %q %q %q", i.Format, i.Cluster, i.Node, i.Incarnation), crc32.MakeTable(crc32.Castagnoli))
	return fmt.Sprintf("%08x", sum)
}

// ErrWrongData is returned for a data directory of another cluster or node.
var ErrWrongData = errors.New("the data directory is not this node's")

// openIdentity locks dir and reads its identity, or gives it one. entropy is read only for the latter.
// The caller closes the lock when the node has stopped.
func openIdentity(files vfs.FS, dir, cluster, node string, entropy io.Reader) (Identity, io.Closer, error) {
	if err := vfs.MakeDir(files, dir); err != nil {
		return Identity{}, nil, fmt.Errorf("connector: data directory %s: %w", dir, err)
	}
	lock, err := files.Lock(path.Join(dir, lockFile))
	if errors.Is(err, vfs.ErrLocked) {
		return Identity{}, nil, fmt.Errorf("connector: data directory %s is in use by another process: stop that one first, or give this node a directory of its own: %w", dir, err)
	}
	if err != nil {
		return Identity{}, nil, fmt.Errorf("connector: data directory %s: lock: %w", dir, err)
	}
	id, err := readIdentity(files, dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err = mustBeNew(files, dir); err == nil {
			id, err = createIdentity(files, dir, cluster, node, entropy)
		}
	}
	if err == nil && (id.Cluster != cluster || id.Node != node) {
		err = fmt.Errorf("connector: data directory %s belongs to node %s of cluster %s, want node %s of cluster %s: check `data` and `cluster.name` in the configuration: %w",
			dir, id.Node, id.Cluster, node, cluster, ErrWrongData)
	}
	if err != nil {
		return Identity{}, nil, errors.Join(err, lock.Close())
	}
	return id, lock, nil
}

// mustBeNew refuses a directory that has what only a node that knew who it is can have made: under another identity
// its log would be a stranger's.
func mustBeNew(files vfs.FS, dir string) error {
	for _, part := range []string{walDir, tabletsDir, catalogDir} {
		some, err := anyFile(files, path.Join(dir, part))
		if err != nil {
			return fmt.Errorf("connector: data directory %s: %w", dir, err)
		}
		if some != "" {
			return fmt.Errorf("connector: %s at 0: the file is missing, but there is %s: %w", path.Join(dir, identityFile), some, errIdentity)
		}
	}
	return nil
}

// anyFile returns a file of a directory or of one in it, "" if there is none.
func anyFile(files vfs.FS, dir string) (string, error) {
	names, err := files.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	for _, name := range names {
		if _, lerr := files.List(path.Join(dir, name)); lerr != nil {
			return path.Join(dir, name), nil
		}
		if some, err := anyFile(files, path.Join(dir, name)); some != "" || err != nil {
			return some, err
		}
	}
	return "", err
}

// errIdentity says that nobody knows any more whose a data directory is.
var errIdentity = errors.New("the identity of the data directory is lost")

func readIdentity(files vfs.FS, dir string) (Identity, error) {
	name := path.Join(dir, identityFile)
	text, err := vfs.ReadFile(files, name)
	if err != nil {
		return Identity{}, fmt.Errorf("connector: %s: %w", name, err)
	}
	var id Identity
	if err := json.Unmarshal(text, &id); err != nil {
		at := int64(0)
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			at = syntax.Offset
		}
		return Identity{}, fmt.Errorf("connector: %s at %d: %w: %w", name, at, err, errIdentity)
	}
	if id.Format != identityFormat || !incarnationPattern.MatchString(id.Incarnation) {
		return Identity{}, fmt.Errorf("connector: %s at 0: format %d and incarnation %q, want format %d and 8 hex digits: the file is damaged or of a newer nyala: %w", name, id.Format, id.Incarnation, identityFormat, errIdentity)
	}
	if want := id.checksum(); id.Checksum != want {
		return Identity{}, fmt.Errorf("connector: %s at 0: checksum %q, want %q: the file is damaged: %w", name, id.Checksum, want, errIdentity)
	}
	return id, nil
}

func createIdentity(files vfs.FS, dir, cluster, node string, entropy io.Reader) (Identity, error) {
	var raw [4]byte
	if _, err := io.ReadFull(entropy, raw[:]); err != nil {
		return Identity{}, fmt.Errorf("connector: incarnation of %s: %w", dir, err)
	}
	id := Identity{Format: identityFormat, Cluster: cluster, Node: node, Incarnation: hex.EncodeToString(raw[:])}
	id.Checksum = id.checksum()
	text, err := json.Marshal(id)
	if err != nil {
		return Identity{}, err
	}
	if err := vfs.ReplaceFile(files, path.Join(dir, identityFile), append(text, '\n')); err != nil {
		return Identity{}, fmt.Errorf("connector: identity of %s: %w", dir, err)
	}
	return id, nil
}
