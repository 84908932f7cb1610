import { setTimeout as delay } from 'node:timers/promises'
import type { Mischief } from '../proxy.ts'
import { acknowledgedMore, type Row } from '../stage.ts'
import { unanswered, watch } from './postgres.ts'

/** Things go wrong on the way to Postgres for so many acknowledgements. */
const onTheWay = (name: string, summary: string, mischief: Mischief, acknowledgements: number): Row => ({
  name,
  summary,
  async story(stage) {
    const load = stage.load()
    await acknowledgedMore(load, 20)
    stage.proxy.set(mischief)
    const came = await acknowledgedMore(load, stage.short ? acknowledgements / 10 : acknowledgements, 120)
    stage.proxy.set({})
    const back = await acknowledgedMore(load, 20)
    await load.stop()
    return {
      faults: stage.proxy.faults(),
      notes: [...load.unknowns].map(([why, count]) => `${count} × ${why}`),
      findings: [...(came && back ? [] : ['Nothing was accepted any more']), ...unanswered(load.refusals)],
    }
  },
})

const delayed = onTheWay('delay', 'everything is 20 ms late: nothing is lost', { late: 20 }, 200)

const resets = (['before', 'after'] as const).map((when) =>
  onTheWay(
    `reset-${when}-commit`,
    `the connection breaks ${when} COMMIT reaches Postgres: unknown outcomes are resolved by key`,
    { reset: { oneIn: 5, when } },
    500,
  ),
)

/** How long a connection may be dead before nobody waits for it any more, in seconds. */
const noticedWithin = 60

const silences = (['existing', 'all'] as const).map(
  (silent): Row => ({
    name: `silence-${silent}`,
    waits: true,
    summary:
      silent === 'existing'
        ? 'every connection there is falls silent for ever, new ones work: they are given up and replaced'
        : 'Postgres cannot be reached and nobody is told, for 20 s: everything comes back',
    async story(stage) {
      const load = stage.load()
      await acknowledgedMore(load, 20)
      stage.proxy.set({ silent })
      if (silent === 'all') await delay(20_000)
      stage.proxy.set({})
      const begun = performance.now()
      const back = await acknowledgedMore(load, 50, noticedWithin)
      const notes = [`accepted again after ${((performance.now() - begun) / 1000).toFixed(1)} s`]
      const findings = back ? await watch(stage.apis[0]?.url) : [`Not accepted again within ${noticedWithin} s`]
      await load.stop()
      return { faults: stage.proxy.faults(), notes, findings }
    },
  }),
)

const notifications: Row = {
  name: 'notify-dropped',
  summary: "no hint arrives: everything still does, at the floor's pace",
  async story(stage) {
    stage.proxy.set({ withoutNotifications: true })
    const load = stage.load()
    await acknowledgedMore(load, stage.short ? 50 : 500, 120)
    const findings = await watch(stage.apis[0]?.url)
    await load.stop()
    const faults = stage.proxy.faults()
    return {
      faults,
      findings: faults > 0 ? findings : ['No notification was dropped: nothing was tested', ...findings],
    }
  },
}

export const network = [delayed, ...resets, ...silences, notifications]
