import { duration } from '../pages/duration.ts'
import { type Html, html } from './html.ts'
import type { Throughput } from './throughput.ts'

/** The columns of the table from which the script draws the charts. */
const columns = [
  ['succeeded', 'Succeeded'],
  ['failed', 'Failed'],
  ['canceled', 'Canceled'],
  ['wait_p50', 'Wait p50'],
  ['wait_p99', 'Wait p99'],
  ['run_p50', 'Run p50'],
  ['run_p99', 'Run p99'],
] as const

/** A chart of some columns of the table. Without scripts, it is empty and takes no space. */
const chart = (title: string, names: readonly (typeof columns)[number][0][], unit: 'jobs' | 'seconds'): Html => {
  const indexes = names.map((name) => columns.findIndex(([known]) => known === name))
  return html`<figure class="chart" data-columns="${indexes.join(' ')}" data-unit="${unit}"><figcaption>${title}</figcaption><div class="plot" aria-hidden="true"></div></figure>`
}

/** Charts of the times, and the table that they are drawn from, which is there without scripts and for screen readers. */
export const chartsOf = (times: readonly Throughput[], every: 'minute' | 'hour'): Html => html`<div class="charts">
${chart(`Jobs that ended, per ${every}`, ['succeeded', 'failed', 'canceled'], 'jobs')}
${chart('Wait for a worker', ['wait_p50', 'wait_p99'], 'seconds')}
${chart('Run time', ['run_p50', 'run_p99'], 'seconds')}
</div>
<details class="numbers"><summary>The numbers</summary><div class="scroll" tabindex="0" role="region" aria-label="The numbers of the charts">
<table class="plain" id="numbers"><caption class="hidden">What has ended, per ${every}</caption>
<thead><tr><th scope="col">Time</th>${columns.map(([, label]) => html`<th scope="col" class="number">${label}</th>`)}</tr></thead>
<tbody>${times.map(
  (row) =>
    html`<tr><th scope="row"><time datetime="${row.at?.toISOString()}">${row.at?.toISOString().slice(5, 16).replace('T', ' ')}</time></th>${columns.map(
      ([name]) =>
        html`<td class="number" data-value="${row[name]}">${
          typeof row[name] === 'number' && name.includes('_') ? duration(row[name]) : (row[name] ?? '–')
        }</td>`,
    )}</tr>\n`,
)}</tbody></table></div></details>`
