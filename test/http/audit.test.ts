import { defineOperation } from 'accepted'
import t from 'tap'
import Type from 'typebox'
import { hashApiKey } from '../../src/http/api-key.ts'
import { serve } from '../support/api.ts'

const note = defineOperation({
  ...{ name: 'note.create', input: Type.Unknown() },
  route: { method: 'POST', url: '/notes' },
})

t.test('what a request does to a job or an endpoint is in the audit, with the principal and the API key', async (t) => {
  const { url, database } = await serve(t, { operations: { note } })
  const query = async (text: string, values?: unknown[]) => (await database.pool.query(text, values)).rows
  const [{ id: keyId }] = await query(
    `insert into accepted.api_key (id, name, principal, scopes, hash)
    values (accepted.uuid7(), 'phone', 'ann', '{admin}', $1) returning id`,
    [hashApiKey('secret')],
  )
  const send = async (method: string, path: string, body?: unknown) => {
    const headers = {
      authorization: 'Bearer secret',
      ...(body !== undefined && { 'content-type': 'application/json' }),
    }
    const response = await fetch(url + path, {
      method,
      headers,
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
    return response.status === 204 ? undefined : ((await response.json()) as { id: string })
  }
  const job = (await send('POST', '/notes', {}))?.id as string
  await send('POST', `/jobs/${job}/cancel`)
  await send('POST', `/jobs/${job}/retry`)
  const endpoint = (await send('POST', '/webhooks', { url: 'http://127.0.0.1:11998/' }))?.id as string
  await send('POST', `/webhooks/${endpoint}/rotate`)
  await send('DELETE', `/webhooks/${endpoint}`)
  const by = { key_id: keyId, principal: 'ann' }
  t.same(await query('select action, object, key_id, principal from accepted.audit order by id'), [
    { action: 'key.created', object: keyId, key_id: null, principal: null },
    { action: 'cancel', object: job, ...by },
    { action: 'retry', object: job, ...by },
    { action: 'webhook.created', object: endpoint, ...by },
    { action: 'webhook.changed', object: endpoint, ...by },
    { action: 'webhook.deleted', object: endpoint, ...by },
  ])
})
