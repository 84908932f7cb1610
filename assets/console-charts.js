// Draws the charts of a page from its table of numbers.
import uPlot from './uPlot.esm.js'

const height = 150
const colors = ['--success', '--failure', '--muted']
const durationColors = ['--accent', '--warning']

const styleOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()

function readNumbers() {
  const rows = [...document.querySelectorAll('#numbers tbody tr')]
  const times = rows.map((row) => Date.parse(row.querySelector('time').dateTime) / 1000)
  const columns = rows[0]
    ? [...rows[0].cells].slice(1).map((_, index) =>
        rows.map((row) => {
          const { value } = row.cells[index + 1].dataset
          return value ? Number(value) : null
        }),
      )
    : []
  const labels = [...document.querySelectorAll('#numbers thead th')].slice(1).map((cell) => cell.textContent)
  return { times, columns, labels }
}

/** Formats seconds for an axis. */
function shortDuration(seconds) {
  if (seconds === 0) return '0'
  if (seconds < 1) return `${+(seconds * 1000).toPrecision(2)} ms`
  if (seconds < 60) return `${+seconds.toPrecision(2)} s`
  return seconds < 3600 ? `${+(seconds / 60).toPrecision(2)} min` : `${+(seconds / 3600).toPrecision(2)} h`
}

function draw(figure, { times, columns, labels }) {
  const plot = figure.querySelector('.plot')
  const indexes = figure.dataset.columns.split(' ').map(Number)
  const isJobs = figure.dataset.unit === 'jobs'
  const format = isJobs ? (value) => value.toLocaleString('en-US') : shortDuration
  const show = (_, value) => (value === null || value === undefined ? '–' : format(value))
  const grid = { stroke: styleOf('--border'), width: 1 }
  const axis = { stroke: styleOf('--muted'), grid, ticks: grid, font: '12px system-ui, sans-serif' }
  plot.replaceChildren()
  new uPlot(
    {
      width: plot.clientWidth,
      height,
      // Times as the rest of the page shows them.
      tzDate: (at) => uPlot.tzDate(new Date(at * 1000), 'Etc/UTC'),
      cursor: { drag: { x: false, y: false } },
      scales: { y: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] } },
      axes: [axis, { ...axis, size: 60, values: (_, values) => values.map(format) }],
      series: [
        { label: 'UTC', value: '{YYYY}-{MM}-{DD} {HH}:{mm}' },
        ...indexes.map((column, index) => ({
          label: labels[column],
          stroke: styleOf((isJobs ? colors : durationColors)[index]),
          width: 2,
          points: { size: 4 },
          value: show,
        })),
      ],
    },
    [times, ...indexes.map((column) => columns[column])],
    plot,
  )
}

function drawAll() {
  const figures = document.querySelectorAll('figure.chart')
  const numbers = readNumbers()
  if (numbers.times.length > 0) for (const figure of figures) draw(figure, numbers)
}

document.addEventListener('console:refreshed', () => {
  // Only figures that the refresh has replaced are empty.
  if (document.querySelector('.plot:empty')) drawAll()
})
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawAll)
let width = innerWidth
addEventListener('resize', () => {
  if (innerWidth !== width) drawAll()
  width = innerWidth
})
drawAll()
