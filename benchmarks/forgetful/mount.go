package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// mount shows a disk at a path.
func mount(d *disk, path string) (*fuse.Server, error) {
	long := time.Hour // the kernel alone changes the disk, so it may remember
	server, err := fs.Mount(path, &node{disk: d, object: d.root}, &fs.Options{
		EntryTimeout: &long, AttrTimeout: &long,
		RootStableAttr: &fs.StableAttr{Ino: d.root.ino},
		MountOptions:   fuse.MountOptions{DirectMountStrict: true, FsName: "forgetful", Name: "forgetful", DisableXAttrs: true},
	})
	if err != nil {
		return nil, fmt.Errorf("mounting at %s: %w", path, err)
	}
	return server, nil
}

// node is an object as go-fuse sees it, for as long as it is mounted.
type node struct {
	fs.Inode
	disk   *disk
	object *object
}

var (
	_ fs.NodeStatfser  = (*node)(nil)
	_ fs.NodeGetattrer = (*node)(nil)
	_ fs.NodeSetattrer = (*node)(nil)
	_ fs.NodeLookuper  = (*node)(nil)
	_ fs.NodeReaddirer = (*node)(nil)
	_ fs.NodeMkdirer   = (*node)(nil)
	_ fs.NodeCreater   = (*node)(nil)
	_ fs.NodeOpener    = (*node)(nil)
	_ fs.NodeReader    = (*node)(nil)
	_ fs.NodeWriter    = (*node)(nil)
	_ fs.NodeAllocater = (*node)(nil)
	_ fs.NodeFsyncer   = (*node)(nil)
	_ fs.NodeLinker    = (*node)(nil)
	_ fs.NodeUnlinker  = (*node)(nil)
	_ fs.NodeRmdirer   = (*node)(nil)
	_ fs.NodeRenamer   = (*node)(nil)
)

// child is the node of an object below this one.
func (n *node) child(ctx context.Context, o *object, out *fuse.EntryOut) *fs.Inode {
	o.attributes(&out.Attr)
	return n.NewInode(ctx, &node{disk: n.disk, object: o}, fs.StableAttr{Mode: o.mode & syscall.S_IFMT, Ino: o.ino})
}

func (o *object) attributes(out *fuse.Attr) {
	out.Ino, out.Mode, out.Nlink = o.ino, o.mode, 1
	out.Size, out.Blksize, out.Blocks = uint64(o.size), pageSize, uint64(max(o.allocated, int64(len(o.now))*pageSize))/512
	out.SetTimes(&o.time, &o.time, &o.time)
}

// Statfs shows a disk with room: a full one is another test's business.
func (n *node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	out.Bsize, out.Frsize, out.NameLen = pageSize, pageSize, 255
	out.Blocks, out.Bfree, out.Bavail = 1<<26, 1<<25, 1<<25
	out.Files, out.Ffree = 1<<20, 1<<20
	return 0
}

func (n *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	return n.disk.look(func() syscall.Errno {
		n.object.attributes(&out.Attr)
		return 0
	})
}

func (n *node) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return n.disk.change(func() syscall.Errno {
		if size, ok := in.GetSize(); ok {
			n.object.truncate(int64(size))
		}
		if mode, ok := in.GetMode(); ok {
			n.object.mode = n.object.mode&syscall.S_IFMT | mode&^syscall.S_IFMT
		}
		n.object.attributes(&out.Attr)
		return 0
	})
}

func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (child *fs.Inode, errno syscall.Errno) {
	errno = n.disk.look(func() syscall.Errno {
		o, ok := n.object.names[name]
		if !ok {
			return syscall.ENOENT
		}
		child = n.child(ctx, o, out)
		return 0
	})
	return child, errno
}

func (n *node) Readdir(context.Context) (list fs.DirStream, errno syscall.Errno) {
	errno = n.disk.look(func() syscall.Errno {
		var entries []fuse.DirEntry
		for _, name := range slices.Sorted(maps.Keys(n.object.names)) {
			o := n.object.names[name]
			entries = append(entries, fuse.DirEntry{Name: name, Mode: o.mode, Ino: o.ino})
		}
		list = fs.NewListDirStream(entries)
		return 0
	})
	return list, errno
}

func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (child *fs.Inode, errno syscall.Errno) {
	errno = n.disk.change(func() syscall.Errno {
		o := n.disk.newObject(syscall.S_IFDIR | mode&0o7777)
		n.object.rename(change{name: o})
		child = n.child(ctx, o, out)
		return 0
	})
	return child, errno
}

func (n *node) Create(ctx context.Context, name string, _ uint32, mode uint32, out *fuse.EntryOut) (child *fs.Inode, h fs.FileHandle, flags uint32, errno syscall.Errno) {
	errno = n.disk.change(func() syscall.Errno {
		o := n.disk.newObject(syscall.S_IFREG | mode&0o7777)
		n.object.rename(change{name: o})
		child = n.child(ctx, o, out)
		return 0
	})
	return child, nil, fuse.FOPEN_KEEP_CACHE, errno
}

func (n *node) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_KEEP_CACHE, 0
}

func (n *node) Read(_ context.Context, _ fs.FileHandle, into []byte, offset int64) (result fuse.ReadResult, errno syscall.Errno) {
	errno = n.disk.look(func() syscall.Errno {
		result = fuse.ReadResultData(into[:n.object.read(into, offset)])
		return 0
	})
	return result, errno
}

func (n *node) Write(_ context.Context, _ fs.FileHandle, data []byte, offset int64) (uint32, syscall.Errno) {
	return uint32(len(data)), n.disk.change(func() syscall.Errno {
		n.object.write(data, offset)
		return 0
	})
}

// keepSize is FALLOC_FL_KEEP_SIZE of fallocate(2).
const keepSize = 1

func (n *node) Allocate(_ context.Context, _ fs.FileHandle, offset, size uint64, mode uint32) syscall.Errno {
	if mode&^keepSize != 0 {
		return syscall.EOPNOTSUPP
	}
	return n.disk.change(func() syscall.Errno {
		n.object.allocated = max(n.object.allocated, int64(offset+size))
		if mode&keepSize == 0 && int64(offset+size) > n.object.size {
			n.object.truncate(int64(offset + size))
		}
		return 0
	})
}

// Fsync is of files and of directories.
func (n *node) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	return n.disk.change(func() syscall.Errno {
		n.object.sync()
		return 0
	})
}

func (n *node) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (child *fs.Inode, errno syscall.Errno) {
	o := target.EmbeddedInode().Operations().(*node).object
	errno = n.disk.change(func() syscall.Errno {
		if n.object.names[name] != nil {
			return syscall.EEXIST
		}
		n.object.rename(change{name: o})
		child = n.child(ctx, o, out)
		return 0
	})
	return child, errno
}

func (n *node) Unlink(_ context.Context, name string) syscall.Errno {
	return n.disk.change(func() syscall.Errno {
		n.object.rename(change{name: nil})
		return 0
	})
}

func (n *node) Rmdir(_ context.Context, name string) syscall.Errno {
	return n.disk.change(func() syscall.Errno {
		if o := n.object.names[name]; o != nil && len(o.names) > 0 {
			return syscall.ENOTEMPTY
		}
		n.object.rename(change{name: nil})
		return 0
	})
}

func (n *node) Rename(_ context.Context, from string, parent fs.InodeEmbedder, to string, flags uint32) syscall.Errno {
	if flags != 0 {
		return syscall.EINVAL
	}
	target := parent.EmbeddedInode().Operations().(*node).object
	return n.disk.change(func() syscall.Errno {
		o := n.object.names[from]
		if target == n.object {
			target.rename(change{from: nil, to: o})
			return 0
		}
		target.rename(change{to: o})
		n.object.rename(change{from: nil})
		return 0
	})
}
