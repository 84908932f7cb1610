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

/** Formats a time for an axis: the day at midnight. */
function shortTime(at) {
  const [day, time] = new Date(at * 1000).toISOString().slice(5, 16).split('T')
  return time === '00:00' ? day : time
}

/** Formats seconds for an axis. */
function shortDuration(seconds) {
  if (seconds === 0) return '0'
  if (seconds < 1) return `${+(seconds * 1000).toPrecision(2)} ms`
  if (seconds < 60) return `${+seconds.toPrecision(2)} s`
  return seconds < 3600 ? `${+(seconds / 60).toPrecision(2)} min` : `${+(seconds / 3600).toPrecision(2)} h`
}

function draw(figure, width, { times, columns, labels }) {
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
      width,
      height,
      // Times as the rest of the page shows them.
      tzDate: (at) => uPlot.tzDate(new Date(at * 1000), 'Etc/UTC'),
      cursor: { drag: { x: false, y: false } },
      scales: { y: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] } },
      axes: [
        { ...axis, space: 70, values: (_, times) => times.map(shortTime) },
        { ...axis, size: 60, values: (_, values) => values.map(format) },
      ],
      series: [
        {
          label: 'UTC',
          value: (_, at) => (at ? new Date(at * 1000).toISOString().slice(5, 16).replace('T', ' ') : '–'),
        },
        ...indexes.map((column, index) => ({
          label: labels[column],
          stroke: styleOf((isJobs ? colors : durationColors)[index]),
          width: 2,
          // Times without jobs have no duration, so a line may have one point only.
          points: { show: !isJobs, size: 4 },
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
  if (numbers.times.length === 0) return
  // A chart without content is not shown. All of them share the width, so all are shown before the first is drawn.
  for (const figure of figures) figure.querySelector('.plot').textContent = '…'
  const widths = [...figures].map((figure) => figure.querySelector('.plot').clientWidth)
  for (const [index, figure] of figures.entries()) draw(figure, widths[index], numbers)
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
