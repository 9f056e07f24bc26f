package status

import (
	"fmt"
	"strings"
	"time"

	"fenc/modes/stats"
)

// The plot's coordinates: x from 0 to plotWidth, y from 0, the top, to plotHeight.
const (
	plotWidth  = 720
	plotHeight = 160
)

// plot is the throughput of the last hour as a curve.
type plot struct {
	Points  string    // of the curve, as SVG has them
	Area    string    // the same, closed along the bottom
	Top     float64   // bytes a second at the top; 0 where nothing came
	Now     float64   // bytes a second in the last 10 to 20 seconds
	Peak    float64   // highest of all
	Bytes   int64     // in all
	Files   int64     // in all
	Minutes []minute  // for reading the curve
	Begun   time.Time // of the curve
}

// minute is one of the plot's columns.
type minute struct {
	X, Width float64
	Begun    time.Time
	Rate     float64
	Files    int64
}

// newPlot draws what came, in steps of equal length, oldest first.
func newPlot(steps []stats.Throughput) plot {
	if len(steps) < 2 {
		return plot{}
	}
	pace := steps[1].Begun.Sub(steps[0].Begun).Seconds()
	p := plot{Begun: steps[0].Begun}
	for _, s := range steps {
		p.Peak = max(p.Peak, float64(s.Bytes)/pace)
		p.Bytes += s.Bytes
		p.Files += s.Files
	}
	p.Top = niceTop(p.Peak)
	column := plotWidth / float64(len(steps)-1)
	points := make([]string, len(steps))
	for i, s := range steps {
		y := float64(plotHeight)
		if p.Top > 0 {
			y -= float64(s.Bytes) / pace / p.Top * plotHeight
		}
		points[i] = fmt.Sprintf("%.1f,%.1f", float64(i)*column, y)
	}
	p.Points = strings.Join(points, " ")
	p.Area = fmt.Sprintf("0,%d %s %d,%[1]d", plotHeight, p.Points, plotWidth)
	// The last step has only begun: the one before it counts too.
	newest, before := steps[len(steps)-1], steps[len(steps)-2]
	p.Now = float64(max(newest.Bytes, before.Bytes)) / pace
	p.Minutes = minutes(steps, pace, column)
	return p
}

// minutes sums steps up by the minute.
func minutes(steps []stats.Throughput, pace, column float64) []minute {
	each := max(1, int(60/pace))
	var all []minute
	for i := 0; i < len(steps); i += each {
		group := steps[i:min(len(steps), i+each)]
		m := minute{X: float64(i) * column, Width: float64(len(group)) * column, Begun: group[0].Begun}
		var bytes int64
		for _, s := range group {
			bytes += s.Bytes
			m.Files += s.Files
		}
		m.Rate = float64(bytes) / pace / float64(len(group))
		all = append(all, m)
	}
	return all
}

// niceTop returns the least of 1, 2 and 5 with a power of 1024 and of 10 that is
// not under peak, so that the scale reads well and seldom jumps.
func niceTop(peak float64) float64 {
	if peak <= 0 {
		return 0
	}
	unit := 1.0
	for unit*1000 < peak {
		unit *= 1024
	}
	for _, step := range []float64{1, 2, 5, 10, 20, 50, 100, 200, 500} {
		if unit*step >= peak {
			return unit * step
		}
	}
	return unit * 1024
}
