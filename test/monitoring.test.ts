// Checks the dashboard and the alert rules against the metrics of a real API and a real worker.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { defineOperation } from 'accepted'
import t from 'tap'
import { parse } from 'yaml'
import { checkRules, rulesFile } from './alerts/promtool.ts'
import { anchorsOf } from './docs/markdown.ts'
import { serve } from './support/api.ts'
import { metricsToken, readMetrics } from './support/client.ts'
import { hasProgram } from './support/debian-package.ts'
import { openJobs } from './support/jobs.ts'
import { handlersFor, readSeries, Word } from './worker/support.ts'

const root = join(import.meta.dirname, '..')
const say = defineOperation({ name: 'word.say', input: Word, limit: { rate: '10/1s' } })

interface Rule {
  alert: string
  expr: string
  for: string
  labels: { severity: string }
  annotations: Record<string, string>
}

const rules: Rule[] = parse(readFileSync(rulesFile, 'utf8')).groups.flatMap((group: { rules: Rule[] }) => group.rules)
const dashboard = JSON.parse(readFileSync(join(root, 'deploy/grafana/accepted.json'), 'utf8'))

interface Panel {
  id: number
  type: string
  title: string
  description?: string
  gridPos: { h: number; w: number; x: number; y: number }
  targets?: { expr: string; refId: string }[]
}

const panels: Panel[] = dashboard.panels

/** Returns the metrics, and the labels in matchers and groupings, of an expression in PromQL. */
function readExpression(expression: string): { metrics: string[]; labels: string[] } {
  const labels = [...expression.matchAll(/(?:\b(?:by|on)\s*\(|[{,]\s*)([\w\s,]+?)(?=\)|=~?|!=|!~)/g)]
  return {
    metrics: [...new Set(expression.match(/\baccepted_\w+/g) ?? [])],
    labels: labels.flatMap(([, names = '']) => names.split(',').map((name) => name.trim())).filter(Boolean),
  }
}

t.test('the dashboard and the alerts use metrics and labels that exist', async (t) => {
  const operations = { say }
  const api = await serve(t, { operations, metricsToken, authenticate: () => null })
  const jobs = await openJobs(t, [say], api.database.options.url)
  const worker = await jobs.work(handlersFor(say, { settle: async () => {} }))
  await jobs.ended(await jobs.add(say, { word: 'x' }))
  const texts = [await readMetrics(api.url), await worker.metrics()]
  const families = new Set(texts.flatMap((text) => [...text.matchAll(/^# TYPE (\w+)/gm)].map(([, name]) => name)))
  const labels = new Set(texts.flatMap((text) => [...text.matchAll(/[{,](\w+)="/g)].map(([, name]) => name)))
  // Prometheus and the configuration of its scrapes add these.
  for (const label of ['namespace', 'instance', 'method', 'route', 'outcome', 'reason', 'rank']) labels.add(label)
  const expressions = [
    ...rules.map(({ expr, alert }) => ({ where: alert, expr })),
    ...panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ where: title, expr }))),
  ]
  t.ok(expressions.length > 30)
  for (const { where, expr } of expressions) {
    const used = readExpression(expr)
    t.ok(used.metrics.length > 0, where)
    for (const name of used.metrics) t.ok(families.has(name.replace(/_(?:bucket|count|sum)$/, '')), `${where}: ${name}`)
    for (const name of used.labels) t.ok(labels.has(name), `${where}: the label ${name}`)
  }
  for (const text of texts) {
    t.equal(readSeries(text, 'accepted_limit_starts_per_second{operation="word.say"}'), 10)
    t.equal(readSeries(text, 'accepted_limited_keys{operation="word.say"}'), 0)
    t.equal(readSeries(text, 'accepted_workers{status="ready"}'), 1)
    t.equal(readSeries(text, 'accepted_partitions_ahead'), 3)
    t.equal(readSeries(text, 'accepted_operation_workers{operation="word.say"}'), 1)
    t.ok((readSeries(text, 'accepted_xmin_age_transactions') ?? -1) >= 0)
  }
})

t.test('each alert says what has happened, what to do next, and where to read more', async (t) => {
  const page = readFileSync(join(root, 'docs/alerts.md'), 'utf8')
  t.ok(rules.length >= 6)
  for (const { alert, labels, annotations, ...rule } of rules) {
    t.match(rule.for, /^\d+m$/, alert)
    t.match(labels.severity, /^(?:warning|critical)$/, alert)
    t.ok(annotations.summary, alert)
    t.match(annotations.description, /Next: (?:psql|accepted) /, alert)
    const [file, anchor = ''] = annotations.runbook_url?.split('#') ?? []
    t.equal(file, 'docs/alerts.md')
    t.ok(anchorsOf(page).includes(anchor), `${alert}: ${annotations.runbook_url}`)
  }
})

t.test('the panels of the dashboard have a unique id, a query, and a place of their own', async (t) => {
  t.match(dashboard, { title: 'Accepted', schemaVersion: Number, uid: String, time: { from: String, to: String } })
  t.same(
    dashboard.templating.list.map(({ name }: { name: string }) => name),
    ['datasource', 'namespace', 'operation'],
  )
  t.equal(new Set(panels.map(({ id }) => id)).size, panels.length)
  const taken = new Set<string>()
  for (const { type, title, description, targets = [], gridPos } of panels) {
    t.ok(title)
    t.ok(gridPos.x + gridPos.w <= 24, title)
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        if (taken.has(`${x} ${y}`)) t.fail(`${title} lies over another panel`)
        taken.add(`${x} ${y}`)
      }
    }
    if (type === 'row') continue
    t.ok(description, title)
    t.ok(targets.length > 0, title)
    t.equal(new Set(targets.map(({ refId }) => refId)).size, targets.length, title)
  }
})

t.test('promtool accepts the rules', { skip: !hasProgram('promtool') && 'promtool is not installed' }, async (t) => {
  t.equal(await checkRules(), undefined)
})
