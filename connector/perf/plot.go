package perf

import (
	"fmt"
	"math"
	"strings"
)

// panel is one figure over time.
type panel struct {
	title string
	unit  float64                 // what a value is divided by
	value func(s *second) float64 // NaN: none
	least float64                 // the scale goes at least to this
}

var panels = []panel{
	{"committed, thousand events/s", 1e3, func(s *second) float64 { return s.EventsPerSecond }, 1},
	{"produced to readable, p99 of each second, ms", 1, freshP99, 10},
	{"CPU, cores", 1, func(s *second) float64 { return s.CPUCores }, 1},
	{"resident memory, all nodes, MiB", 1 << 20, func(s *second) float64 { return float64(s.RSSBytes) }, 100},
	{"files, all replicas", 1, func(s *second) float64 { return float64(s.Files) }, 10},
	{"log on disk, all nodes, MiB", 1 << 20, func(s *second) float64 { return float64(s.WALBytes) }, 100},
}

// freshP99 is none while what waited in the topic is ingested: how long it waited there says nothing of the nodes.
func freshP99(s *second) float64 {
	if s.Phase == phaseIngest {
		return math.NaN()
	}
	return s.FreshP99
}

// The picture's measures, in pixels.
const (
	plotWidth   = 840
	plotLeft    = 70
	plotRight   = 20
	panelHeight = 110
	panelGap    = 44
)

// plot draws samples as SVG, a panel below the other, the phases side by side.
func plot(samples []second) string {
	times, marks := timeline(samples)
	height := len(panels)*(panelHeight+panelGap) + 40
	width := float64(plotWidth - plotLeft - plotRight)
	end := times[len(times)-1]
	x := func(t float64) float64 { return plotLeft + t/end*width }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", plotWidth, height, plotWidth, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", plotWidth, height)
	for i, p := range panels {
		top := float64(i*(panelHeight+panelGap)) + 30
		high := p.least
		for k := range samples {
			if v := p.value(&samples[k]) / p.unit; v > high {
				high = v
			}
		}
		step := niceStep(high / 4)
		high = math.Ceil(high/step) * step
		y := func(v float64) float64 { return top + panelHeight*(1-v/high) }
		fmt.Fprintf(&b, `<text x="%d" y="%.0f" font-weight="bold">%s</text>`+"\n", plotLeft, top-8, p.title)
		for v := 0.0; v <= high+step/2; v += step {
			fmt.Fprintf(&b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end" fill="#555">%s</text>`+"\n",
				plotLeft, plotWidth-plotRight, y(v), y(v), plotLeft-6, y(v)+4, number(v))
		}
		var line strings.Builder
		for k := range samples {
			if v := p.value(&samples[k]) / p.unit; !math.IsNaN(v) {
				fmt.Fprintf(&line, "%.1f,%.1f ", x(times[k]), y(v))
			}
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="#1f5fa8" stroke-width="1.4"/>`+"\n", strings.TrimSpace(line.String()))
		step = niceStep(end / 8)
		for t := 0.0; t <= end; t += step {
			fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="middle" fill="#555">%s s</text>`+"\n", x(t), top+panelHeight+15, number(t))
		}
		for _, m := range marks {
			at, anchor := x(m.at)+4, "start"
			if m.at > end/2 { // where there is room for it
				at, anchor = x(m.at)-4, "end"
			}
			fmt.Fprintf(&b, `<line x1="%.1f" x2="%.1f" y1="%.0f" y2="%.0f" stroke="#c33" stroke-dasharray="4 3"/><text x="%.1f" y="%.0f" text-anchor="%s" fill="#c33">%s from here</text>`+"\n",
				x(m.at), x(m.at), top, top+panelHeight, at, top+12, anchor, m.phase)
		}
	}
	return b.String() + "</svg>\n"
}

// mark is where another phase begins.
type mark struct {
	phase string
	at    float64
}

// timeline puts the phases one after the other: the time of each sample, and where a phase begins but for the first.
func timeline(samples []second) (times []float64, marks []mark) {
	begin, last := 0.0, 0.0
	for k, s := range samples {
		if k > 0 && s.Phase != samples[k-1].Phase {
			begin = last
			marks = append(marks, mark{s.Phase, begin})
		}
		last = begin + s.Second
		times = append(times, last)
	}
	return times, marks
}

// niceStep is the least of 1, 2, 5 times a power of ten that is at least v.
func niceStep(v float64) float64 {
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{1, 2, 5} {
		if f*p >= v {
			return f * p
		}
	}
	return 10 * p
}

// number writes a value of a scale.
func number(v float64) string {
	if v != math.Trunc(v) {
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}
