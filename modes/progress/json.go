package progress

import (
	"encoding/json"
	"strings"
	"time"

	"fenc/modes/send"
)

// jsonEvery is how often a status is written.
const jsonEvery = time.Second

// The types of the lines, as message_type has them. examples/messages.schema.json
// describes them; fields may be added to it, and none is taken away or changed.
const (
	typeStatus  = "status"
	typeFile    = "file"
	typeSkipped = "skipped"
	typePlanned = "would_send"
	typeError   = "error"
	typeSummary = "summary"
)

type statusMessage struct {
	MessageType      string        `json:"message_type"`
	SecondsElapsed   float64       `json:"seconds_elapsed"`
	SecondsRemaining *float64      `json:"seconds_remaining,omitempty"`
	Counting         bool          `json:"counting"`               // total_files and total_bytes still grow
	PercentDone      *float64      `json:"percent_done,omitempty"` // 0 to 1; not while counting
	TotalFiles       int64         `json:"total_files"`
	TotalBytes       int64         `json:"total_bytes"`
	FilesVerified    int64         `json:"files_verified"`
	FilesUnchanged   int64         `json:"files_unchanged"` // of files_verified
	FilesFailed      int64         `json:"files_failed"`
	BytesSent        int64         `json:"bytes_sent"`
	BytesHeld        int64         `json:"bytes_held"`
	BytesVerified    int64         `json:"bytes_verified"` // of bytes_held
	BytesPerSecond   float64       `json:"bytes_per_second"`
	Retries          int64         `json:"retries"`
	RetrySeconds     *float64      `json:"retry_seconds,omitempty"`
	CurrentFiles     []currentFile `json:"current_files"`
}

type currentFile struct {
	Name        string  `json:"name"`
	Bytes       int64   `json:"bytes"`
	BytesSent   int64   `json:"bytes_sent"`
	BytesHeld   int64   `json:"bytes_held"`
	ResumedAt   int64   `json:"resumed_at"`
	Attempts    int64   `json:"attempts"`
	PercentDone float64 `json:"percent_done"`
}

type fileMessage struct {
	MessageType string  `json:"message_type"`
	Name        string  `json:"name"`
	Result      string  `json:"result"` // verified, unchanged or failed
	Bytes       int64   `json:"bytes"`
	Seconds     float64 `json:"seconds"`
	BLAKE3      string  `json:"blake3,omitempty"`
	CRC32       string  `json:"crc32,omitempty"`
	Attempts    int     `json:"attempts"`
	Error       string  `json:"error,omitempty"`
}

type skippedMessage struct {
	MessageType string `json:"message_type"`
	Name        string `json:"name"`
	Reason      string `json:"reason"`
}

type plannedMessage struct {
	MessageType string `json:"message_type"`
	Path        string `json:"path"`
	Name        string `json:"name"`
	Remove      bool   `json:"remove"` // the file here, once it is verified
}

type errorMessage struct {
	MessageType  string   `json:"message_type"`
	Message      string   `json:"message"`
	Fatal        bool     `json:"fatal"`
	RetrySeconds *float64 `json:"retry_seconds,omitempty"`
}

type summaryMessage struct {
	MessageType    string       `json:"message_type"`
	ExitStatus     int          `json:"exit_status"`
	Seconds        float64      `json:"seconds"`
	FilesVerified  int64        `json:"files_verified"`
	FilesUnchanged int64        `json:"files_unchanged"`
	FilesFailed    int64        `json:"files_failed"`
	FilesSkipped   int64        `json:"files_skipped"`
	BytesVerified  int64        `json:"bytes_verified"`
	BytesSent      int64        `json:"bytes_sent"`
	Retries        int64        `json:"retries"`
	Explain        *explanation `json:"explain,omitempty"`
}

type explanation struct {
	Text             string  `json:"text"`
	DiskSeconds      float64 `json:"disk_seconds"`
	ProcessorSeconds float64 `json:"processor_seconds"`
	NetworkSeconds   float64 `json:"network_seconds"`
	ReceiverSeconds  float64 `json:"receiver_seconds"` // of network_seconds
	LimitSeconds     float64 `json:"limit_seconds"`
	ServerSeconds    float64 `json:"server_seconds"`
	PausedSeconds    float64 `json:"paused_seconds"`
}

// jsonLines writes JSON lines.
type jsonLines struct {
	o       Options
	encoder *json.Encoder
	most    float64 // the highest percent_done that was written
}

func newJSONLines(o Options) *jsonLines {
	v := &jsonLines{o: o, encoder: json.NewEncoder(o.Out)}
	v.encoder.SetEscapeHTML(false)
	return v
}

// write writes a line. That a reader has gone is no reason to end the transfer.
func (v *jsonLines) write(message any) { _ = v.encoder.Encode(message) }

func (v *jsonLines) draw(s *snapshot) {
	m := statusMessage{
		MessageType: typeStatus, SecondsElapsed: round(s.elapsed), Counting: !s.counted, TotalFiles: s.found, TotalBytes: s.foundBytes,
		FilesVerified: s.verified, FilesUnchanged: s.unchanged, FilesFailed: s.failed,
		BytesSent: s.moved, BytesHeld: s.held, BytesVerified: s.verifiedBytes, BytesPerSecond: float64(int64(s.rate)), Retries: s.retries,
		SecondsRemaining: maybe(s.remaining()), CurrentFiles: []currentFile{},
	}
	if s.counted {
		v.most = max(v.most, s.fraction())
		m.PercentDone = &v.most
	}
	if s.retryIn > 0 {
		m.RetrySeconds = maybe(s.retryIn)
	}
	for _, f := range s.active {
		m.CurrentFiles = append(m.CurrentFiles, currentFile{
			Name: f.file.Name, Bytes: f.file.Size, BytesSent: f.Moved, BytesHeld: f.Held, ResumedAt: f.Resumed, Attempts: f.Attempts,
			PercentDone: float64(f.percent()) / 100,
		})
	}
	v.write(m)
}

func (v *jsonLines) result(r send.Result) {
	m := fileMessage{MessageType: typeFile, Name: r.Name, Result: "verified", Bytes: r.Size, Seconds: round(r.Took), Attempts: r.Attempts}
	m.BLAKE3, _ = strings.CutPrefix(r.Checksum, "blake3 ")
	if crc, ok := strings.CutPrefix(r.Checksum, "crc32 "); ok {
		m.BLAKE3, m.CRC32 = "", crc
	}
	switch {
	case r.Err != nil:
		m.Result, m.Error = "failed", r.Err.Error()
	case r.Unchanged:
		m.Result = "unchanged"
	}
	v.write(m)
}

func (v *jsonLines) skipped(path, why string) { v.write(skippedMessage{typeSkipped, path, why}) }

func (v *jsonLines) planned(path, name string, remove bool) {
	v.write(plannedMessage{typePlanned, path, name, remove})
}

func (v *jsonLines) note(text string, warning bool) {
	if warning {
		v.write(errorMessage{MessageType: typeError, Message: text})
	}
}

func (v *jsonLines) retrying(why error, pause time.Duration) {
	v.write(errorMessage{MessageType: typeError, Message: why.Error(), RetrySeconds: maybe(pause)})
}

func (v *jsonLines) end(e *ending) {
	if e.err != nil {
		v.write(errorMessage{MessageType: typeError, Message: e.err.Error(), Fatal: true})
	}
	m := summaryMessage{
		MessageType: typeSummary, ExitStatus: e.exitStatus, Seconds: round(e.elapsed),
		FilesVerified: e.verified, FilesUnchanged: e.unchanged, FilesFailed: e.failed, FilesSkipped: e.sums.skipped,
		BytesVerified: e.verifiedBytes, BytesSent: e.moved, Retries: e.retries,
	}
	if s := e.spent; s != nil {
		m.Explain = &explanation{
			Text: explain(e, v.o.Getting), DiskSeconds: round(s.Disk), ProcessorSeconds: round(s.Processor), NetworkSeconds: round(s.Network),
			ReceiverSeconds: round(s.Receiver), LimitSeconds: round(s.Limit), ServerSeconds: round(s.Server), PausedSeconds: round(e.paused),
		}
	}
	v.write(m)
}

// round is a time in seconds, of which a thousandth is enough.
func round(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

// maybe is a time in seconds; nil where there is none.
func maybe(d time.Duration) *float64 {
	if d < 0 {
		return nil
	}
	seconds := round(d)
	return &seconds
}
