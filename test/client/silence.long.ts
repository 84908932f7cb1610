import { createClient, type Job } from 'accepted/client'
import t from 'tap'
import { apiKey, startApp } from './app.ts'
import type * as operations from './operations.ts'
import { startFaultyProxy } from './proxy.ts'

// These tests wait for the client to give up a connection on which nothing arrives: 30 s, or 40 s for a stream.

const app = await startApp(t)
const proxy = await startFaultyProxy(t, app.url)
const client = createClient<typeof operations>({
  url: proxy.url,
  headers: { 'x-api-key': apiKey },
  routes: { 'words.count': 'PUT /texts/{language}/words', steered: 'POST /steered' },
})

t.test('a request that is never answered is repeated, and a stream that falls silent is resumed', async (t) => {
  const silent = new Set(['PUT', 'events'])
  proxy.choose = ({ method, url }) =>
    silent.delete(`${method}`) || (url?.endsWith('/events') && silent.delete('events')) ? 'silent' : undefined
  const finish = Promise.withResolvers<void>()
  app.perform('silent', async (job) => {
    await finish.promise
    return job.payload
  })
  const watch = async () => {
    const seen: Job[] = []
    for await (const job of client.watch(await client.submit('steered', { name: 'silent' }))) {
      seen.push(job)
      // The stream carries nothing after its first events.
      if (seen.length === 1) finish.resolve()
    }
    return seen
  }
  const [seen, job] = await Promise.all([
    watch(),
    client.submit('words.count', { text: 'a b' }, { params: { language: 'en' } }),
  ])
  t.equal(seen.at(-1)?.status, 'succeeded')
  t.equal(proxy.requests.filter(({ route }) => route.startsWith('PUT')).length, 2)
  t.equal(await app.count('words.count'), 1)
  t.same(await client.result(job), { words: 2, language: 'en' })
})
