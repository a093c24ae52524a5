package api

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
	"github.com/gofiber/fiber/v2"
)

func fiberOf(ctx huma.Context) *fiber.Ctx { return humafiber.UnwrapV2(ctx) }

// inMemory is how many groups an answer may have to be encoded before it is sent: its length is then known, and
// a failure still becomes a problem document.
const inMemory = 1000

// body writes an answer of so many groups.
func (v *Server) body(contentType string, groups int, write func(io.Writer) error) func(huma.Context) {
	if groups > inMemory {
		return v.streamed(contentType, write)
	}
	return func(ctx huma.Context) {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			r := requestOf(ctx.Context())
			v.write(fiberOf(ctx).Context(), r, v.refuse(r, err))
			return
		}
		ctx.SetHeader("Content-Type", contentType)
		ctx.SetStatus(http.StatusOK)
		_, _ = ctx.BodyWriter().Write(b.Bytes()) // into memory: cannot fail
	}
}

// streamed is a body that is written while it is sent, in memory of constant size. The writer runs on a
// goroutine of its own, where no middleware sees a panic: one that is not caught here ends the process. A body
// that fails half-way is cut off, so that nobody takes it for a whole one.
func (v *Server) streamed(contentType string, write func(io.Writer) error) func(huma.Context) {
	return func(ctx huma.Context) {
		ctx.SetHeader("Content-Type", contentType)
		ctx.SetStatus(http.StatusOK)
		fast := fiberOf(ctx).Context()
		if fast.IsHead() {
			return
		}
		id := requestOf(ctx.Context()).id
		r, w := io.Pipe()
		go func() {
			err := errors.New("writing the answer panicked")
			defer func() {
				if value := recover(); value != nil {
					v.options.Log.Error("answer cut off", "id", id, "panic", panicText(value))
				} else if err != nil && !errors.Is(err, io.ErrClosedPipe) {
					v.options.Log.Error("answer cut off", "id", id, "error", logText(err))
				}
				w.CloseWithError(err) // nil: the end
			}()
			b := bufio.NewWriterSize(w, 64<<10)
			if err = write(b); err == nil {
				err = b.Flush()
			}
		}()
		fast.SetBodyStream(r, -1) // closes r when the caller leaves, which ends the goroutine
	}
}

// watched is a writer to somebody who may not be let in any more.
type watched struct {
	w      io.Writer
	still  func() error // refuses who is not
	looked time.Time    // when it was last asked
}

// Write writes, and looks every now and then who reads.
func (w *watched) Write(p []byte) (int, error) {
	if now := time.Now(); now.Sub(w.looked) >= lookAgain {
		if err := w.still(); err != nil {
			return 0, err
		}
		w.looked = now
	}
	return w.w.Write(p)
}

// jsonRelease writes a release group by group, with the combined values of an answer if there are any. Groups come last, behind everything that says how to read them.
func jsonRelease(head wire.ReleaseHead, r dp.Release, combined [][]*dp.Value) func(io.Writer) error {
	return func(w io.Writer) error {
		start, err := json.Marshal(head)
		if err != nil {
			return fmt.Errorf("encoding a release: %w", err)
		}
		if _, err := w.Write(append(bytes.TrimSuffix(start, []byte("}")), `,"groups":[`...)); err != nil {
			return err
		}
		for i, g := range r.Groups {
			if i > 0 {
				if _, err := io.WriteString(w, ","); err != nil {
					return err
				}
			}
			group := groupOf(r, g)
			for m, name := range r.Metrics {
				if combined != nil && combined[i][m] != nil {
					value := group.Values[name]
					value.Combined = (*wire.Combined)(combined[i][m])
					group.Values[name] = value
				}
			}
			text, err := json.Marshal(group)
			if err != nil {
				return fmt.Errorf("encoding a group: %w", err)
			}
			if _, err := w.Write(text); err != nil {
				return err
			}
		}
		_, err = io.WriteString(w, "]}\n")
		return err
	}
}

func ndjsonRelease(r dp.Release) func(io.Writer) error {
	return func(w io.Writer) error {
		e := json.NewEncoder(w)
		for _, g := range r.Groups {
			if err := e.Encode(groupOf(r, g)); err != nil {
				return fmt.Errorf("encoding a group: %w", err)
			}
		}
		return nil
	}
}
