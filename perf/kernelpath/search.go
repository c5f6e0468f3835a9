package kernelpath

// maxLoss is the part of the packets that may be lost at a rate that still counts
// as without loss.
const maxLoss = 0.001

// search finds the highest rate below top that is delivered without loss, by
// halving the interval so many times. A rate that fails is tried once more: other
// work on the machine can only make it worse. It returns the rate that arrived, 0
// if none got through.
func search(top float64, steps int, try func(rate float64) (Flood, error)) (best float64, err error) {
	low, high := 0.0, top
	for range steps {
		rate := (low + high) / 2
		held := false
		for range 2 {
			f, err := try(rate)
			if err != nil {
				return best, err
			}
			if f.Delivered > 0 && f.Loss() <= maxLoss {
				best, held = max(best, f.Delivered), true
				break
			}
		}
		if held {
			low = rate
		} else {
			high = rate
		}
	}
	return best, nil
}
