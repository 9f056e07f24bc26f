//go:build unix

package main

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"syscall"
	"time"

	"fenc/model/postgrestest"
	"fenc/model/storage/s3/s3test"
)

// clusterFaults break something, and mend it again before they return. What is killed at
// a moment is killed while clients send.
var clusterFaults = map[string]func(*cluster){
	"replica killed": func(c *cluster) {
		i := c.one()
		c.replicas[i].signal(c.t, syscall.SIGKILL)
		c.replicas[i].await(c.t)
		c.last(time.Second)
		c.start(i)
	},
	"two replicas killed": func(c *cluster) {
		first := c.one()
		for _, i := range []int{first, (first + 1) % clusterReplicas} {
			c.replicas[i].signal(c.t, syscall.SIGKILL)
			c.replicas[i].await(c.t)
		}
		c.last(500 * time.Millisecond)
		c.start(first)
		c.start((first + 1) % clusterReplicas)
	},
	"replica stopped": func(c *cluster) {
		i := c.one()
		c.replicas[i].signal(c.t, syscall.SIGTERM)
		c.replicas[i].result(c.t).want(c.t, 0)
		c.start(i)
	},
	"replica frozen": func(c *cluster) {
		i := c.one()
		c.replicas[i].signal(c.t, syscall.SIGSTOP)
		c.last(2 * time.Second)
		c.replicas[i].signal(c.t, syscall.SIGCONT)
	},
	"replica frozen for longer than its lease": func(c *cluster) {
		i := c.one()
		c.replicas[i].signal(c.t, syscall.SIGSTOP)
		c.last(25 * time.Second)
		c.replicas[i].signal(c.t, syscall.SIGCONT)
	},
	"replica cut from the database": func(c *cluster) {
		line := c.replicas[c.one()].line
		line.Cut(true)
		c.last(2 * time.Second)
		line.Cut(false)
	},
	"replica killed when a part comes":       func(c *cluster) { c.killAt(s3test.IsPart, false) },
	"replica killed when a part is there":    func(c *cluster) { c.killAt(s3test.IsPart, true) },
	"replica killed when it completes":       func(c *cluster) { c.killAt(s3test.IsComplete, false) },
	"replica killed when it has completed":   func(c *cluster) { c.killAt(s3test.IsComplete, true) },
	"replica killed when it puts an object":  func(c *cluster) { c.killAt(s3test.IsPut, false) },
	"replica killed when an object is there": func(c *cluster) { c.killAt(s3test.IsPut, true) },
	"replica killed when it commits":         func(c *cluster) { c.killAtCommit(false) },
	"replica killed when it has committed":   func(c *cluster) { c.killAtCommit(true) },
	"store killed": func(c *cluster) {
		c.store.Kill()
		c.last(time.Second)
		if err := c.store.Restart(); err != nil {
			c.t.Fatal(err)
		}
	},
	"store busy": func(c *cluster) {
		c.between(func(w http.ResponseWriter, r *http.Request, pass http.Handler) { s3test.Answer(w, 503, "SlowDown") })
		c.last(time.Second)
		c.between(nil)
	},
	"store slow": func(c *cluster) {
		c.between(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
			c.last(200 * time.Millisecond)
			pass.ServeHTTP(w, r)
		})
		c.last(2 * time.Second)
		c.between(nil)
	},
	"store cut off in the middle": func(c *cluster) {
		var n atomic.Int64
		c.between(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
			if n.Add(1)%3 == 0 {
				io.CopyN(io.Discard, r.Body, 100<<10)
				s3test.Cut(w)
			}
			pass.ServeHTTP(w, r)
		})
		c.last(time.Second)
		c.between(nil)
	},
	"store that answers 500 when it has done it": func(c *cluster) {
		c.between(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
			if s3test.IsComplete(r) || s3test.IsPut(r) {
				pass.ServeHTTP(discarded{http.Header{}}, r)
				s3test.Answer(w, 500, "InternalError")
				return
			}
			pass.ServeHTTP(w, r)
		})
		c.last(300 * time.Millisecond)
		c.between(nil)
	},
	"database restarted": func(c *cluster) {
		if err := c.database.Stop(syscall.SIGINT); err != nil {
			c.t.Fatal(err)
		}
		if err := c.database.Run(); err != nil {
			c.t.Fatal(err)
		}
	},
	"database killed": func(c *cluster) {
		if err := c.database.Stop(syscall.SIGQUIT); err != nil {
			c.t.Fatal(err)
		}
		c.last(time.Second)
		if err := c.database.Run(); err != nil {
			c.t.Fatal(err)
		}
	},
	"database frozen": func(c *cluster) {
		if err := c.database.Freeze(true); err != nil {
			c.t.Fatal(err)
		}
		c.last(2 * time.Second)
		if err := c.database.Freeze(false); err != nil {
			c.t.Fatal(err)
		}
	},
	"standby frozen": func(c *cluster) {
		c.freeze(c.standby, true)
		c.last(2 * time.Second)
		c.freeze(c.standby, false)
	},
	"standby takes over": func(c *cluster) {
		c.stop(c.database)
		c.takeOver()
	},
	// The machine of the database stands still and comes back, and some replicas still
	// talk to it. What it commits then has no standby, and nobody is to hear of it, though
	// it can be seen there: an operator has no patience with commits that wait.
	"standby takes over from a database that comes back": func(c *cluster) {
		c.freeze(c.database, true)
		if err := c.standby.Promote(); err != nil {
			c.t.Fatal(err)
		}
		c.freeze(c.database, false)
		if err := c.database.CancelWaits(2 * time.Second); err != nil {
			c.t.Fatal(err)
		}
		c.stop(c.database)
		c.follow()
	},
}

// discarded takes an answer that nobody is to see.
type discarded struct{ header http.Header }

func (d discarded) Header() http.Header         { return d.header }
func (d discarded) Write(p []byte) (int, error) { return len(p), nil }
func (d discarded) WriteHeader(int)             {}

func (c *cluster) one() int { return c.random.IntN(clusterReplicas) }

// last has a fault last so long.
func (c *cluster) last(d time.Duration) {
	select {
	case <-time.After(d):
	case <-c.t.Context().Done():
	}
}

func (c *cluster) stop(database *postgrestest.Cluster) {
	c.t.Helper()
	if err := database.Stop(syscall.SIGQUIT); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) freeze(database *postgrestest.Cluster, yes bool) {
	c.t.Helper()
	if err := database.Freeze(yes); err != nil {
		c.t.Fatal(err)
	}
}

// takeOver has the standby take the place of the database, which has ended.
func (c *cluster) takeOver() {
	c.t.Helper()
	if err := c.standby.Promote(); err != nil {
		c.t.Fatal(err)
	}
	c.last(time.Second)
	c.follow()
}

// follow has the database that has ended follow the one that took its place.
func (c *cluster) follow() {
	c.t.Helper()
	c.database, c.standby = c.standby, c.database
	if err := c.standby.Follow(c.database); err != nil {
		c.t.Fatal(err)
	}
}

// between puts a fault between all replicas and the store; nil: none.
func (c *cluster) between(f s3test.Fault) {
	for _, r := range c.replicas {
		r.way.Set(f)
	}
}

// killAt kills the replica that is the next, or the one after, to ask something of the
// store: when it asks or, with done, when it is done and not answered.
func (c *cluster) killAt(what func(*http.Request) bool, done bool) {
	c.t.Helper()
	c.killOne(func(i int, come func(int) bool) {
		c.replicas[i].way.Set(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
			if !what(r) {
				pass.ServeHTTP(w, r)
				return
			}
			if done {
				answer := httptest.NewRecorder()
				pass.ServeHTTP(answer, r)
				if !come(i) {
					maps.Copy(w.Header(), answer.Header())
					w.WriteHeader(answer.Code)
					w.Write(answer.Body.Bytes())
					return
				}
			} else if !come(i) {
				pass.ServeHTTP(w, r)
				return
			}
			s3test.Cut(w)
		})
	}, func(i int) { c.replicas[i].way.Set(nil) })
}

// killAtCommit does so when a replica commits to the database.
func (c *cluster) killAtCommit(done bool) {
	c.t.Helper()
	c.killOne(func(i int, come func(int) bool) {
		c.replicas[i].line.OnCommit(func(d bool) bool { return d == done && come(i) })
	}, func(i int) { c.replicas[i].line.OnCommit(nil) })
}

// killOne kills a replica at a moment that it comes to, if one does before all is sent.
// arm has come called at that moment, which returns whether it is now dead.
func (c *cluster) killOne(arm func(i int, come func(i int) (dead bool)), disarm func(i int)) {
	c.t.Helper()
	killed := make(chan int, 1)
	var left atomic.Int64
	left.Store(1 + c.random.Int64N(3))
	come := func(i int) bool {
		if left.Add(-1) != 0 {
			return false
		}
		c.replicas[i].Process.Signal(syscall.SIGKILL)
		<-c.replicas[i].ended
		killed <- i
		return true
	}
	for i := range c.replicas {
		arm(i, come)
	}
	defer func() {
		for i := range c.replicas {
			disarm(i)
		}
	}()
	var dead int
	select {
	case dead = <-killed:
	case <-c.sent:
		if left.Swap(0) > 0 { // and nobody is killed any more
			c.missed++
			return
		}
		dead = <-killed
	}
	c.last(500 * time.Millisecond)
	c.start(dead)
}
