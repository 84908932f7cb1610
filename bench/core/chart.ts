import { type Course, format, type Table } from './scenario.ts'
import { median } from './stats.ts'

const width = 720
const labelWidth = 210
const valueWidth = 90
const rowHeight = 30

/** For XML. */
export const escaped = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')

/** Draws the first metric of a table as bars, with lines from the least to the greatest, as an SVG. */
export function drawBars({ caption, metrics: [metric], series }: Table): string {
  if (!metric) throw new Error(`Nothing is measured of: ${caption}`)
  const bars = series.map(({ contender, samples }) => {
    const values = samples.map((sample) => sample[metric.name] ?? Number.NaN)
    return { contender, middle: median(values), least: Math.min(...values), greatest: Math.max(...values) }
  })
  // Where nobody is called so, all are ours.
  const named = bars.filter(({ contender }) => contender.startsWith('Accepted'))
  const isOurs = (bar: (typeof bars)[number]) => named.length === 0 || named.includes(bar)
  const longest = Math.max(...bars.map(({ greatest }) => greatest))
  const scale = (value: number) => (longest > 0 ? (value / longest) * (width - labelWidth - valueWidth) : 0)
  const height = 44 + bars.length * rowHeight
  const rows = bars.map((bar, index) => {
    const { contender, middle, least, greatest } = bar
    const y = 36 + index * rowHeight
    const from = labelWidth + scale(least)
    const to = labelWidth + scale(greatest)
    return `<text x="${labelWidth - 8}" y="${y + 15}" text-anchor="end">${escaped(contender)}</text>
<rect x="${labelWidth}" y="${y}" width="${scale(middle).toFixed(1)}" height="20" rx="2" fill="${isOurs(bar) ? '#2563eb' : '#94a3b8'}"/>
<path d="M${from.toFixed(1)} ${y + 10}H${to.toFixed(1)}" stroke="#64748b" stroke-width="2"/>
<text x="${(to + 8).toFixed(1)}" y="${y + 15}">${format(middle)}</text>`
  })
  return framed({ caption, title: `${metric.name} (${metric.unit})`, height }, rows)
}

const plotHeight = 220
const colors = ['#2563eb', '#ea580c', '#16a34a', '#9333ea', '#64748b']

/** Draws lines over time, from zero, as an SVG. */
export function drawLines({ caption, time, metric, lines, span }: Course): string {
  const points = lines.flatMap((line) => line.points)
  if (points.length === 0) throw new Error(`Nothing is measured of: ${caption}`)
  const times = points.map((point) => point.time)
  const [first, last] = [Math.min(...times), Math.max(...times)]
  const greatest = niceAbove(Math.max(...points.map(({ value }) => value)))
  const [left, right, top] = [76, width - 20, 36]
  const bottom = top + plotHeight
  const x = (at: number) => (left + ((at - first) / (last - first || 1)) * (right - left)).toFixed(1)
  const y = (value: number) => (bottom - (value / greatest) * plotHeight).toFixed(1)
  const rows: string[] = []
  if (span) {
    const [from, to] = [Number(x(span.from)), Number(x(span.to))]
    rows.push(`<rect x="${from}" y="${top}" width="${(to - from).toFixed(1)}" height="${plotHeight}" fill="#e2e8f0"/>
<text x="${from + 6}" y="${top + 15}" fill="#475569">${escaped(span.text)}</text>`)
  }
  for (const value of [0, greatest / 4, greatest / 2, (greatest / 4) * 3, greatest])
    rows.push(`<path d="M${left} ${y(value)}H${right}" stroke="#cbd5e1"/>
<text x="${left - 8}" y="${Number(y(value)) + 4}" text-anchor="end">${format(value)}</text>`)
  for (const part of [0, 0.25, 0.5, 0.75, 1]) {
    const at = first + part * (last - first)
    rows.push(`<text x="${x(at)}" y="${bottom + 18}" text-anchor="middle">${format(at)}</text>`)
  }
  rows.push(`<text x="${right}" y="${bottom + 36}" text-anchor="end">${escaped(`${time.name} (${time.unit})`)}</text>`)
  for (const [index, line] of lines.entries()) {
    const color = colors[index % colors.length]
    const path = line.points.map((point) => `${x(point.time)} ${y(point.value)}`).join('L')
    const key = bottom + 50 + index * 18
    rows.push(`<path d="M${path}" fill="none" stroke="${color}" stroke-width="2" stroke-linejoin="round"/>
<rect x="${left}" y="${key - 9}" width="16" height="4" fill="${color}"/>
<text x="${left + 24}" y="${key}">${escaped(line.name)}</text>`)
  }
  const height = bottom + 52 + lines.length * 18
  return framed({ caption, title: `${metric.name} (${metric.unit})`, height }, rows)
}

/** The next of 1, 2, 4, 6, 8, 10, 20, … */
function niceAbove(value: number): number {
  if (!(value > 0)) return 1
  const unit = 10 ** Math.floor(Math.log10(value))
  return ([1, 2, 4, 6, 8, 10].find((step) => step * unit >= value) ?? 10) * unit
}

/** A ground of its own, for a page may be dark. */
function framed(
  { caption, title, height }: { caption: string; title: string; height: number },
  rows: readonly string[],
): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="13" fill="#0f172a">
<title>${escaped(caption)}</title>
<rect width="100%" height="100%" rx="6" fill="#f8fafc"/>
<text x="12" y="22" font-weight="600">${escaped(title)}</text>
${rows.join('\n')}
</svg>
`
}
