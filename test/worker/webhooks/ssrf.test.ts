import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import t, { type Test } from 'tap'
import { parseNetworks } from '../../../src/primitives/networks.ts'
import { post } from '../../../worker/webhooks/post.ts'
import { recordConnections } from '../../support/connection-guard.ts'
import { type DnsAnswer, startDnsServer } from '../../support/dns-server.ts'
import { type Answer, startReceiver } from '../../support/receiver.ts'

/** The only address that webhooks may call here, in the place of a public address. */
const allowed = '127.0.0.1'
const forbidden = ['127.0.0.2', '127.0.0.3', '127.255.255.254', '::1']

/** Listens on an address. Returns false if this machine does not have it. */
async function listen(t: Test, address: string, port: number, onConnection: () => void): Promise<boolean> {
  const server = createServer((socket) => {
    onConnection()
    socket.destroy()
  })
  t.teardown(() => server.close())
  server.listen(port, address)
  try {
    await once(server, 'listening')
    return true
  } catch (error) {
    t.equal((error as NodeJS.ErrnoException).code, 'EADDRNOTAVAIL')
    return false
  }
}

/** Starts a receiver on the allowed address, and listens on the same port of the forbidden ones. */
async function setUp(t: Test, answers: Answer[] = [{ status: 204 }]) {
  const receiver = await startReceiver(t, { answers })
  const port = Number(new URL(receiver.url).port)
  const reached: string[] = []
  for (const address of forbidden) {
    const listens = await listen(t, address, port, () => reached.push(address))
    if (!listens) t.comment(`This machine has no address ${address}`)
  }
  const dns = await startDnsServer(t)
  const attempts = recordConnections(t)
  return {
    ...{ receiver, port, dns, reached },
    send: (url: string, { allow = [allowed], signal = new AbortController().signal } = {}) =>
      post({ url, headers: {}, body: '', allow: parseNetworks(allow), signal, lookup: dns.lookup }),
    expectSilence() {
      t.same(reached, [], 'no forbidden address was reached')
      const others = attempts.filter((attempt) => attempt.address !== allowed || attempt.port !== port)
      t.same(others, [], 'no connection to another address or port was tried')
    },
  }
}

t.test('the listeners and the record of connections see a request to an address that is not refused', async (t) => {
  const { send, port, dns, reached, receiver } = await setUp(t)
  dns.answers['hook.test'] = [{ addresses: ['127.0.0.2'] }]
  const attempts = recordConnections(t)
  await t.rejects(send(`http://hook.test:${port}/`, { allow: ['127.0.0.2'] }))
  t.same(reached, ['127.0.0.2'])
  t.same(attempts, [{ address: '127.0.0.2', port }])
  await t.rejects(send(`https://hook.test:${port}/`, { allow: ['127.0.0.2'] }))
  t.equal(attempts.length, 2, 'TLS connections are recorded too')
  t.equal(receiver.connections(), 0)
})

t.test('a name that changes its address after the check (DNS rebinding) is looked up once', async (t) => {
  const { send, port, dns, receiver, expectSilence } = await setUp(t)
  for (const address of forbidden) {
    const name = `rebind-${forbidden.indexOf(address)}.test`
    dns.answers[name] = [{ addresses: [allowed] }, { addresses: [address] }]
    t.match(await send(`http://${name}:${port}/`), { status: 204 }, 'the checked address is called')
    t.equal(dns.lookups(name), 1)
    await t.rejects(send(`http://${name}:${port}/`), { name: 'AddressRefused' }, `${name} is now ${address}`)
    t.equal(dns.lookups(name), 2)
  }
  t.equal(receiver.received.length, forbidden.length)
  expectSilence()
})

const refused: Record<string, Record<string, DnsAnswer>> = {
  'a public and a private address': { 'hook.test': { addresses: ['93.184.215.14', '127.0.0.2'] } },
  'a private and a public address': { 'hook.test': { addresses: ['127.0.0.2', '93.184.215.14'] } },
  'an allowed and a private address': { 'hook.test': { addresses: [allowed, '127.0.0.2'] } },
  'an allowed address and a private one of the other family': { 'hook.test': { addresses: [allowed, '::1'] } },
  'a private address that may be kept for a day': { 'hook.test': { addresses: ['127.0.0.2'], ttlSeconds: 86_400 } },
  'an IPv4-mapped address': { 'hook.test': { addresses: ['::ffff:127.0.0.2'] } },
  'an IPv4-compatible address': { 'hook.test': { addresses: ['::127.0.0.2'] } },
  'a NAT64 address': { 'hook.test': { addresses: ['64:ff9b::7f00:2'] } },
  'a 6to4 address': { 'hook.test': { addresses: ['2002:7f00:2::1'] } },
  'the unspecified addresses': { 'hook.test': { addresses: ['0.0.0.0', '::'] } },
  'the address of a cloud’s metadata': { 'hook.test': { addresses: ['169.254.169.254', 'fd00:ec2::254'] } },
  'a chain of aliases that ends at a private address': {
    'hook.test': { alias: 'cdn.test', ttlSeconds: 300 },
    'cdn.test': { alias: 'edge.test' },
    'edge.test': { addresses: ['127.0.0.2'] },
  },
  'an alias of localhost': { 'hook.test': { alias: 'localhost' }, localhost: { addresses: ['127.0.0.2', '::1'] } },
}

t.test('a name is refused when one of its addresses is private', async (t) => {
  for (const [kind, answers] of Object.entries(refused)) {
    await t.test(kind, async (t) => {
      const { send, port, dns, receiver, expectSilence } = await setUp(t)
      for (const [name, answer] of Object.entries(answers)) dns.answers[name] = [answer]
      for (const url of [`http://hook.test:${port}/`, `https://hook.test:${port}/`, `http://HOOK.test.:${port}/`]) {
        await t.rejects(send(url), { name: 'AddressRefused' }, url)
      }
      t.equal(dns.lookups('hook.test'), 3)
      t.equal(receiver.connections(), 0)
      expectSilence()
    })
  }
})

t.test('a name that does not exist, has no address or is an alias of such a name is an error', async (t) => {
  const { send, port, dns, receiver, expectSilence } = await setUp(t)
  dns.answers['empty.test'] = [{}]
  dns.answers['alias.test'] = [{ alias: 'absent.test' }]
  for (const name of ['absent.test', 'empty.test', 'alias.test']) {
    await t.rejects(send(`http://${name}:${port}/`), { code: 'ENOTFOUND' }, name)
  }
  t.equal(receiver.connections(), 0)
  expectSilence()
})

t.test('an answer that comes after the request was aborted opens no connection', async (t) => {
  const { send, port, dns, receiver, expectSilence } = await setUp(t)
  const late = Promise.withResolvers<void>()
  dns.answers['late.test'] = [{ addresses: [allowed], after: late.promise }]
  const abortion = new AbortController()
  const sent = send(`http://late.test:${port}/`, { signal: abortion.signal })
  abortion.abort()
  await t.rejects(sent, { name: 'AbortError' })
  late.resolve()
  // This lookup is answered after the late one.
  dns.answers['next.test'] = [{ addresses: [allowed] }]
  t.match(await send(`http://next.test:${port}/`), { status: 204 })
  t.equal(receiver.connections(), 1)
  expectSilence()
})

t.test('redirects are not followed, wherever they lead', async (t) => {
  const answers: Answer[] = [{ status: 204 }]
  const { send, port, dns, receiver, expectSilence } = await setUp(t, answers)
  dns.answers['hook.test'] = [{ addresses: [allowed] }]
  dns.answers['private.test'] = [{ addresses: ['127.0.0.2'] }]
  const targets = [
    ...[`http://private.test:${port}/`, `http://127.0.0.2:${port}/`, `//127.0.0.2:${port}/`, `https://[::1]:${port}/`],
    ...['/elsewhere', 'file:///etc/passwd', `gopher://127.0.0.2:${port}/_`, 'http://169.254.169.254/latest/', ''],
  ]
  const statuses = [300, 301, 302, 303, 305, 307, 308]
  const all = statuses.flatMap((status) => targets.map((location) => ({ status, headers: { location } })))
  answers.splice(0, 1, ...all)
  for (const { status, headers } of all) {
    const response = await send(`http://hook.test:${port}/`)
    t.match(response, { status }, `${status} to ${headers.location}`)
  }
  t.equal(receiver.received.length, all.length, 'each redirect was received once, and nothing else')
  t.equal(dns.lookups('private.test'), 0, 'the target of a redirect is not even looked up')
  expectSilence()
})

t.test('no other header of an answer leads anywhere', async (t) => {
  const answers: Answer[] = [{ status: 204 }]
  const { send, port, receiver, expectSilence } = await setUp(t, answers)
  const url = `http://127.0.0.2:${port}/`
  answers.splice(
    ...[0, 1],
    { status: 200, headers: { refresh: `0; url=${url}`, link: `<${url}>; rel=preload`, 'content-location': url } },
    { status: 200, headers: { 'alt-svc': `h2="127.0.0.2:${port}"`, location: url } },
    { status: 201, headers: { location: url } },
    { status: 401, headers: { 'www-authenticate': `Basic realm="${url}"` } },
    { status: 407, headers: { 'proxy-authenticate': 'Basic', location: url } },
  )
  for (const { status } of [...answers]) t.match(await send(`http://127.0.0.1:${port}/`), { status })
  t.equal(receiver.received.length, answers.length)
  expectSilence()
})

t.test('a proxy in the environment is not used, because it would resolve the name itself', async (t) => {
  const { port, receiver, reached } = await setUp(t)
  const program = `
    import { post } from './worker/webhooks/post.ts'
    import { parseNetworks } from './src/primitives/networks.ts'
    const { signal } = new AbortController()
    const { status } = await post({
      url: 'http://127.0.0.1:${port}/', headers: {}, body: '', allow: parseNetworks(['127.0.0.1']), signal,
    })
    console.log(status)`
  const proxy = `http://127.0.0.2:${port}`
  const env = {
    ...process.env,
    NODE_USE_ENV_PROXY: '1',
    HTTP_PROXY: proxy,
    http_proxy: proxy,
    NO_PROXY: '',
    no_proxy: '',
  }
  const child = spawn(process.execPath, ['--input-type=module-typescript', '--eval', program], { env })
  let output = ''
  child.stdout.on('data', (chunk) => {
    output += chunk
  })
  await once(child, 'close')
  t.equal(output, '204\n')
  t.equal(receiver.connections(), 1)
  t.same(reached, [])
})
