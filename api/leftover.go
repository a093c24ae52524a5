package api

import (
	"bytes"
	"errors"
	"io"
	"net"
	"time"

	"github.com/valyala/fasthttp"
)

// What is left of a body that nobody wanted to read to its end.
const (
	leftover     = 256 << 10              // read at most, so that the connection can be used again
	leftoverTime = 200 * time.Millisecond // and for at most so long, because the answer waits
	lingerTime   = 5 * time.Second        // a connection is emptied before it is closed
)

// finishBody tells whether the connection stands at the end of the request. fasthttp would otherwise take the
// rest of a refused upload for the next request of whoever shares the connection.
func finishBody(c *fasthttp.RequestCtx, r *request) bool {
	if !c.Request.IsBodyStream() {
		return true
	}
	if r.body == nil {
		r.body = newBody(c, 0)
	}
	if r.body.ended {
		return r.body.complete()
	}
	r.body.idle = 0
	if err := c.Conn().SetReadDeadline(time.Now().Add(leftoverTime)); err != nil {
		return false
	}
	_, err := io.CopyN(io.Discard, r.body, leftover)
	return errors.Is(err, io.EOF) && r.body.complete()
}

// linger sends the answer, reads on for a while what still comes, and closes the connection. A connection that
// is closed while its other side is sending is reset, which can destroy the answer on its way: the sender of a
// large upload would not learn why it was refused.
func linger(c *fasthttp.RequestCtx) {
	c.Response.Header.SetConnectionClose()
	if c.Response.IsBodyStream() {
		return // nothing that reads a body answers with a stream
	}
	c.Response.SkipBody = c.IsHead()
	var answer bytes.Buffer
	if _, err := c.Response.WriteTo(&answer); err != nil {
		return
	}
	// Hijacked, because fasthttp must first send the answers to earlier requests of this connection.
	c.HijackSetNoResponse(true)
	c.Hijack(func(conn net.Conn) {
		if conn.SetDeadline(time.Now().Add(lingerTime)) != nil {
			return
		}
		if _, err := conn.Write(answer.Bytes()); err != nil {
			return
		}
		// Nothing more will come: say so, rather than leave the sender to wait for the rest of lingerTime.
		if h, ok := conn.(interface{ UnsafeConn() net.Conn }); ok {
			if half, ok := h.UnsafeConn().(interface{ CloseWrite() error }); ok && half.CloseWrite() != nil {
				return
			}
		}
		_, _ = io.Copy(io.Discard, conn) // until the sender has read the answer and closes
	})
}
