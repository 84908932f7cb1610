import { format, type Table } from './scenario.ts'
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
  const longest = Math.max(...bars.map(({ greatest }) => greatest))
  const scale = (value: number) => (longest > 0 ? (value / longest) * (width - labelWidth - valueWidth) : 0)
  const height = 44 + bars.length * rowHeight
  const rows = bars.map(({ contender, middle, least, greatest }, index) => {
    const y = 36 + index * rowHeight
    const from = labelWidth + scale(least)
    const to = labelWidth + scale(greatest)
    return `<text x="${labelWidth - 8}" y="${y + 15}" text-anchor="end">${escaped(contender)}</text>
<rect x="${labelWidth}" y="${y}" width="${scale(middle).toFixed(1)}" height="20" rx="2" fill="${index === 0 ? '#2563eb' : '#94a3b8'}"/>
<path d="M${from.toFixed(1)} ${y + 10}H${to.toFixed(1)}" stroke="#64748b" stroke-width="2"/>
<text x="${(to + 8).toFixed(1)}" y="${y + 15}">${format(middle)}</text>`
  })
  // A ground of its own, for a page may be dark.
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="13" fill="#0f172a">
<title>${escaped(caption)}</title>
<rect width="100%" height="100%" rx="6" fill="#f8fafc"/>
<text x="12" y="22" font-weight="600">${escaped(`${metric.name} (${metric.unit})`)}</text>
${rows.join('\n')}
</svg>
`
}
