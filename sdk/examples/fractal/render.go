package main

import (
	"image"
	"math"
)

// rgb is a colour in linear light, 0 to 1.
type rgb struct{ r, g, b float64 }

func (a rgb) plus(b rgb) rgb           { return rgb{a.r + b.r, a.g + b.g, a.b + b.b} }
func (a rgb) times(x float64) rgb      { return rgb{a.r * x, a.g * x, a.b * x} }
func (a rgb) mix(b rgb, t float64) rgb { return a.times(1 - t).plus(b.times(t)) }

// palettes are rings of colours, in the order in which the bands around the
// set go through them.
var palettes = map[string][]rgb{
	"ember": {{0.003, 0.002, 0.020}, {0.055, 0.004, 0.110}, {0.420, 0.020, 0.090}, {0.940, 0.190, 0.015}, {1.000, 0.680, 0.120}, {1.000, 0.950, 0.700}, {0.200, 0.450, 0.620}, {0.010, 0.060, 0.210}},
	"ocean": {{0.000, 0.006, 0.030}, {0.000, 0.040, 0.140}, {0.002, 0.190, 0.330}, {0.080, 0.560, 0.560}, {0.720, 0.930, 0.780}, {1.000, 0.960, 0.800}, {0.830, 0.430, 0.200}, {0.130, 0.040, 0.090}},
	"moss":  {{0.004, 0.010, 0.006}, {0.014, 0.070, 0.030}, {0.100, 0.270, 0.050}, {0.560, 0.620, 0.080}, {0.960, 0.900, 0.480}, {0.900, 0.480, 0.130}, {0.300, 0.080, 0.040}, {0.030, 0.012, 0.020}},
	"slate": {{0.006, 0.007, 0.010}, {0.050, 0.055, 0.070}, {0.220, 0.240, 0.270}, {0.620, 0.640, 0.660}, {0.950, 0.950, 0.930}, {0.480, 0.470, 0.460}, {0.110, 0.105, 0.110}, {0.020, 0.020, 0.024}},
}

// inside is the colour of the set itself.
var inside = rgb{0.001, 0.001, 0.003}

const (
	escape = 1e4 // |z|² beyond which a point has surely left; large, for smooth bands
	// bandWidth is how many steps of the palette go by while the logarithm of
	// the iterations doubles.
	bandWidth = 3.2
	// lightX, lightY is where the light comes from, lightHeight how high it is.
	lightX, lightY, lightHeight = -0.6, 0.8, 1.35
	// contrast is the squared difference from a neighbour above which a pixel
	// is sampled four times instead of once.
	contrast = 0.003
)

// render draws the picture: one sample a pixel first, then more where
// neighbours differ.
func render(p params) *image.RGBA {
	v := newView(p)
	first := make([]rgb, p.width*p.height)
	for y := range p.height {
		for x := range p.width {
			first[y*p.width+x] = v.sample(float64(x), float64(y))
		}
	}
	img := image.NewRGBA(image.Rect(0, 0, p.width, p.height))
	for y := range p.height {
		for x := range p.width {
			c := first[y*p.width+x]
			if edge(first, p, x, y) {
				fx, fy := float64(x), float64(y)
				c = v.sample(fx-0.375, fy-0.125).plus(v.sample(fx+0.125, fy-0.375)).
					plus(v.sample(fx+0.375, fy+0.125)).plus(v.sample(fx-0.125, fy+0.375)).times(0.25)
			}
			at := img.Pix[img.PixOffset(x, y):]
			at[0], at[1], at[2], at[3] = gamma(c.r), gamma(c.g), gamma(c.b), 255
		}
	}
	return img
}

func edge(colors []rgb, p params, x, y int) bool {
	c := colors[y*p.width+x]
	for _, d := range [4][2]int{{1, 0}, {-1, 0}, {0, 1}, {0, -1}} {
		nx, ny := x+d[0], y+d[1]
		if nx < 0 || ny < 0 || nx >= p.width || ny >= p.height {
			continue
		}
		n := colors[ny*p.width+nx]
		dr, dg, db := c.r-n.r, c.g-n.g, c.b-n.b
		if dr*dr+dg*dg+db*db > contrast {
			return true
		}
	}
	return false
}

// gamma turns linear light into a byte of sRGB (IEC 61966-2-1, with the plain
// power of 1/2.2).
func gamma(x float64) byte {
	return byte(255*math.Pow(min(max(x, 0), 1), 1/2.2) + 0.5)
}

// view maps pixels to points and points to colours.
type view struct {
	left, top, step float64
	iterations      int
	ring            []rgb
}

func newView(p params) view {
	step := 3 / p.zoom / float64(min(p.width, p.height))
	return view{
		left:       p.centerX - step*float64(p.width-1)/2,
		top:        p.centerY + step*float64(p.height-1)/2,
		step:       step,
		iterations: p.iterations,
		ring:       palettes[p.palette],
	}
}

// sample is the colour at a point of the picture, in pixels: the smoothed
// number of iterations chooses the hue, and the slope of the escape potential
// (z over its derivative) catches the light as a surface would.
func (v *view) sample(px, py float64) rgb {
	cx, cy := v.left+px*v.step, v.top-py*v.step
	if inCardioidOrBulb(cx, cy) {
		return inside
	}
	var x, y, x2, y2 float64
	dx, dy := 1.0, 0.0 // dz/dc
	for n := 1; n <= v.iterations; n++ {
		y = 2*x*y + cy
		x = x2 - y2 + cx
		x2, y2 = x*x, y*y
		if x2+y2 > escape {
			smooth := float64(n) + 1 - math.Log2(math.Log(x2+y2)/2)
			return v.hue(smooth).times(light(x, y, dx, dy))
		}
		dx, dy = 2*(x*dx-y*dy)+1, 2*(x*dy+y*dx)
	}
	return inside
}

// inCardioidOrBulb knows the two largest parts of the set without iterating.
func inCardioidOrBulb(x, y float64) bool {
	q := (x-0.25)*(x-0.25) + y*y
	return q*(q+x-0.25) <= y*y/4 || (x+1)*(x+1)+y*y <= 0.0625
}

func (v *view) hue(smooth float64) rgb {
	at := bandWidth * math.Log2(max(smooth, 1))
	whole := math.Floor(at)
	i, t := int(whole)%len(v.ring), at-whole
	t = t * t * (3 - 2*t)
	return v.ring[i].mix(v.ring[(i+1)%len(v.ring)], t)
}

func light(x, y, dx, dy float64) float64 {
	// u = z / z', of which only the direction matters.
	ux, uy := x*dx+y*dy, y*dx-x*dy
	length := math.Hypot(ux, uy)
	if length == 0 || math.IsInf(length, 0) || math.IsNaN(length) {
		return 1
	}
	t := (ux*lightX + uy*lightY) / length
	return max(0.12, (t+lightHeight)/(1+lightHeight)*1.25)
}
