import { format } from './format.ts'
import type { LineChart, Table } from './scenario.ts'
import { median } from './stats.ts'

// In pixels.
const width = 720
const labelWidth = 230
const valueWidth = 90
const rowHeight = 30

export const escapeXml = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')

/**
 * Draws the first metric of a table as an SVG. Each bar ends at the median. A line goes from the lowest to the highest
 * value.
 */
export function drawBars({ caption, metrics: [metric], series }: Table): string {
  if (!metric) throw new Error(`The table has no metric: ${caption}`)
  const bars = series.map(({ contender, samples }) => {
    const values = samples.map((sample) => sample[metric.name] ?? Number.NaN)
    return { contender, middle: median(values), lowest: Math.min(...values), highest: Math.max(...values) }
  })
  // Some charts show only Accepted, in different situations. Then no name starts with Accepted, and all bars are ours.
  const named = bars.filter(({ contender }) => contender.startsWith('Accepted'))
  const isOurs = (bar: (typeof bars)[number]) => named.length === 0 || named.includes(bar)
  const top = Math.max(...bars.map(({ highest }) => highest))
  const scale = (value: number) => (top > 0 ? (value / top) * (width - labelWidth - valueWidth) : 0)
  const height = 44 + bars.length * rowHeight
  const rows = bars.map((bar, index) => {
    const { contender, middle, lowest, highest } = bar
    const y = 36 + index * rowHeight
    const from = labelWidth + scale(lowest)
    const to = labelWidth + scale(highest)
    return `<text x="${labelWidth - 8}" y="${y + 15}" text-anchor="end">${escapeXml(contender)}</text>
<rect x="${labelWidth}" y="${y}" width="${scale(middle).toFixed(1)}" height="20" rx="2" fill="${isOurs(bar) ? '#2563eb' : '#94a3b8'}"/>
<path d="M${from.toFixed(1)} ${y + 10}H${to.toFixed(1)}" stroke="#64748b" stroke-width="2"/>
<text x="${(to + 8).toFixed(1)}" y="${y + 15}">${format(middle)}</text>`
  })
  return frame({ caption, title: metric.label, height }, rows)
}

const plotHeight = 220
const colors = ['#2563eb', '#ea580c', '#16a34a', '#9333ea', '#64748b']

/** Draws lines over time as an SVG. The y axis starts at zero. */
export function drawLines({ caption, xLabel, yLabel, lines, span }: LineChart): string {
  const points = lines.flatMap((line) => line.points)
  if (points.length === 0) throw new Error(`The chart has no points: ${caption}`)
  const times = points.map((point) => point.time)
  const [first, last] = [Math.min(...times), Math.max(...times)]
  const highest = roundUp(Math.max(...points.map(({ value }) => value)))
  const [left, right, top] = [76, width - 20, 36]
  const bottom = top + plotHeight
  const x = (time: number) => (left + ((time - first) / (last - first || 1)) * (right - left)).toFixed(1)
  const y = (value: number) => (bottom - (value / highest) * plotHeight).toFixed(1)
  const rows: string[] = []
  if (span) {
    const [from, to] = [Number(x(span.from)), Number(x(span.to))]
    rows.push(`<rect x="${from}" y="${top}" width="${(to - from).toFixed(1)}" height="${plotHeight}" fill="#e2e8f0"/>
<text x="${from + 6}" y="${top + 15}" fill="#475569">${escapeXml(span.text)}</text>`)
  }
  for (const value of [0, highest / 4, highest / 2, (highest / 4) * 3, highest])
    rows.push(`<path d="M${left} ${y(value)}H${right}" stroke="#cbd5e1"/>
<text x="${left - 8}" y="${Number(y(value)) + 4}" text-anchor="end">${format(value)}</text>`)
  for (const fraction of [0, 0.25, 0.5, 0.75, 1]) {
    const time = first + fraction * (last - first)
    rows.push(`<text x="${x(time)}" y="${bottom + 18}" text-anchor="middle">${format(time)}</text>`)
  }
  rows.push(`<text x="${right}" y="${bottom + 36}" text-anchor="end">${escapeXml(xLabel)}</text>`)
  for (const [index, line] of lines.entries()) {
    const color = colors[index % colors.length]
    const path = line.points.map((point) => `${x(point.time)} ${y(point.value)}`).join('L')
    const key = bottom + 50 + index * 18
    rows.push(`<path d="M${path}" fill="none" stroke="${color}" stroke-width="2" stroke-linejoin="round"/>
<rect x="${left}" y="${key - 9}" width="16" height="4" fill="${color}"/>
<text x="${left + 24}" y="${key}">${escapeXml(line.name)}</text>`)
  }
  const height = bottom + 52 + lines.length * 18
  return frame({ caption, title: yLabel, height }, rows)
}

/** Rounds up to the next number of the series 1, 2, 4, 6, 8, 10, 20, 40, … */
function roundUp(value: number): number {
  if (!(value > 0)) return 1
  const unit = 10 ** Math.floor(Math.log10(value))
  return ([1, 2, 4, 6, 8, 10].find((step) => step * unit >= value) ?? 10) * unit
}

function frame(
  { caption, title, height }: { caption: string; title: string; height: number },
  rows: readonly string[],
): string {
  // Draws a background, because the page may be dark.
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="13" fill="#0f172a">
<title>${escapeXml(caption)}</title>
<rect width="100%" height="100%" rx="6" fill="#f8fafc"/>
<text x="12" y="22" font-weight="600">${escapeXml(title)}</text>
${rows.join('\n')}
</svg>
`
}
