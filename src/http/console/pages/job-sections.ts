import type { TimelineRow } from '../../../db/views.ts'
import { duration } from '../../pages/duration.ts'
import { badge, section, table } from '../components.ts'
import type { ConsoleContext } from '../context.ts'
import { time } from '../format.ts'
import { type Content, type Html, html } from '../html.ts'
import type { JobView, Relative } from './job-view.ts'

const uuid = /[\da-f]{8}-[\da-f]{4}-7[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}/g

/** Makes links of the ids of jobs in a text. */
function linkIds({ base }: ConsoleContext, text: string | null): Content {
  if (text === null) return undefined
  const ids = text.match(uuid) ?? []
  return text.split(uuid).map((part, index) => {
    const id = ids[index]
    return [part, id !== undefined && html`<a href="${base}/jobs/${id}">${id}</a>`]
  })
}

/** Shows what has happened to a job, with the time since the event before. */
export const timelineOf = (context: ConsoleContext, events: readonly TimelineRow[]): Html =>
  table(
    ['Time', { label: 'After', isNumber: true }, 'Event', { label: 'Attempt', isNumber: true }, 'Worker', 'Detail'],
    events.map(({ at, event, attempt, worker, detail }, index) => {
      const before = events[index - 1]
      return [
        time(at),
        before && duration((at.getTime() - before.at.getTime()) / 1000),
        html`<strong>${event}</strong>`,
        ...[attempt, worker],
        linkIds(context, detail),
      ]
    }),
    { caption: 'What has happened to the job', empty: 'Nothing is known.' },
  )

const titles: Readonly<Record<Relative['relation'], string>> = {
  child: 'Children',
  'waits for': 'Waits for',
  'awaited by': 'Jobs that wait for it',
  retry: 'Retries',
}

/** Shows the relatives of a job: its descendants as a tree. */
export function relativesOf(context: ConsoleContext, { job, relatives }: JobView): Html {
  const groups = Map.groupBy(relatives, ({ relation }) => relation)
  const total = job.children?.total ?? 0
  return html`${[...groups].map(([relation, found]) =>
    section(
      titles[relation],
      html`${treeOf(context, found, relation === 'child' ? job.id : null)}${
        relation === 'child' &&
        html`<p><a href="${context.base}/jobs?parent=${job.id}">${total > 0 ? `All ${total} children` : 'All children'}</a></p>`
      }`,
      { id: relation.replaceAll(' ', '-') },
    ),
  )}`
}

function treeOf(context: ConsoleContext, relatives: readonly Relative[], parent: string | null): Html | undefined {
  const here = relatives.filter((relative) => relative.parent === parent)
  if (here.length === 0) return undefined
  return html`<ul class="tree">${here.map(
    ({ id, operation, status, percent }) =>
      html`<li><a href="${context.base}/jobs/${id}">${operation}</a> ${badge(status)} ${
        status === 'running' && percent !== null && `${percent} %`
      }<code class="id">${id}</code>${parent !== null && treeOf(context, relatives, id)}</li>`,
  )}</ul>`
}
