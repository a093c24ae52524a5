package api

import (
	"bytes"
	"container/list"
	"fmt"
	"io"
	"sync"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/answer"
	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// rereading keeps the JSON of releases that were read lately, for whoever read them. A release never changes
// and whoever holds it holds it for ever, so that nothing kept here can become wrong: only the caller has to
// be admitted anew each time, and held to the policies of today. Dashboards read the same few releases again and again,
// and this path is the shortest: it neither searches the ledger nor encodes anything.
type rereading struct {
	mu     sync.Mutex
	most   int // bytes kept at most
	bytes  int
	byName map[string]*list.Element // of *keptRelease
	recent *list.List               // the latest in front
}

// keptRelease is one release as one consumer sees it, its charge included.
type keptRelease struct {
	name string
	etag string
	from []string // datasets
	body []byte
}

// largestKept is the size in bytes beyond which a release is read from the ledger each time.
const largestKept = 256 << 10

func newRereading(most int) *rereading {
	return &rereading{most: most, byName: make(map[string]*list.Element), recent: list.New()}
}

// nameOf cannot mistake one pair for another: neither part holds a zero byte.
func nameOf(consumer, release string) string { return consumer + "\x00" + release }

func (k *rereading) get(consumer, release string) *keptRelease {
	k.mu.Lock()
	defer k.mu.Unlock()
	at := k.byName[nameOf(consumer, release)]
	if at == nil {
		return nil
	}
	k.recent.MoveToFront(at)
	return at.Value.(*keptRelease)
}

func (k *rereading) put(r *keptRelease) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.byName[r.name] != nil || len(r.body) > min(largestKept, k.most) {
		return
	}
	k.byName[r.name] = k.recent.PushFront(r)
	k.bytes += len(r.body)
	for k.bytes > k.most {
		oldest := k.recent.Remove(k.recent.Back()).(*keptRelease)
		delete(k.byName, oldest.name)
		k.bytes -= len(oldest.body)
	}
}

// keep is a writer of a release's body that also keeps what it wrote.
func (k *rereading) keep(consumer string, release dp.Release, etag string, write func(io.Writer) error) func(io.Writer) error {
	return func(w io.Writer) error {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			return err
		}
		k.put(&keptRelease{name: nameOf(consumer, release.ID), etag: etag, from: answer.DatasetsOf(release), body: b.Bytes()})
		if _, err := w.Write(b.Bytes()); err != nil {
			return fmt.Errorf("writing a release: %w", err)
		}
		return nil
	}
}

// reread answers GET /v1/releases/{id} from what is kept. Whatever is not as plain as can be goes on to the
// operation itself: other formats, conditions, callers that are not admitted, releases that are not kept.
func (v *Server) reread(c *fiber.Ctx) error {
	request, response := &c.Context().Request, &c.Context().Response
	if !request.Header.IsGet() || len(request.URI().QueryString()) > 0 || len(request.Header.Peek(fiber.HeaderIfNoneMatch)) > 0 {
		return c.Next()
	}
	switch string(request.Header.Peek(fiber.HeaderAccept)) {
	case "", "*/*", jsonType:
	default:
		return c.Next()
	}
	who, err := v.admit(v.base, v.rules["get-release"], string(request.Header.Peek(fiber.HeaderAuthorization)))
	if err != nil {
		return c.Next()
	}
	kept := v.rereading.get(who.Name, c.Params("id"))
	if kept == nil || v.services.Releases.MayRead(v.base, who.Name, kept.from) != nil || v.rates.admit(who.Name) != nil { // which is refused there, too
		return c.Next()
	}
	v.noteSignIn(who, nil)
	v.noteReading(who.Name, "get-release", c.Params("id"))
	if r := requestIn(c.Context()); r != nil {
		r.route, r.consumer = "/v1/releases/{id}", who.Name
	}
	response.Header.SetContentType(jsonType)
	releaseHeaders(&response.Header, kept.etag)
	response.SetBodyRaw(kept.body) // never written to
	return nil
}

// releaseHeaders are what a release is sent with by either path.
func releaseHeaders(h *fasthttp.ResponseHeader, etag string) {
	h.Set(fiber.HeaderETag, etag)
	h.Set(fiber.HeaderCacheControl, releaseCacheControl)
	h.Set(fiber.HeaderVary, releaseVary)
}

// A release never changes, but may not be read from a cache by somebody who does not hold it.
const (
	releaseCacheControl = "private, no-cache"
	releaseVary         = "Accept, Authorization"
)

// requestIn finds the request that surround gave a name.
func requestIn(c *fasthttp.RequestCtx) *request {
	r, _ := c.UserValue(requestKey{}).(*request)
	return r
}
