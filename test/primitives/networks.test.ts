import t from 'tap'
import {
  includesAddress,
  isLoopbackHost,
  isPublicAddress,
  networkOf,
  parseNetworks,
} from '../../src/primitives/networks.ts'

t.test('addresses of hosts on the internet are public', (t) => {
  for (const address of ['1.1.1.1', '9.255.255.255', '11.0.0.0', '172.15.255.255', '172.32.0.0', '223.255.255.255']) {
    t.ok(isPublicAddress(address), address)
  }
  for (const address of ['2606:4700::1111', '2a00:1450::1', '2003::', '2001:200::1', '2001:4860:4860::8888']) {
    t.ok(isPublicAddress(address), address)
  }
  t.end()
})

const notPublic = {
  'of this host': ['0.0.0.0', '0.255.255.255', '127.0.0.1', '127.255.255.255', '::', '::1'],
  'private or shared': ['10.0.0.1', '100.64.0.1', '100.127.255.255', '172.16.0.1', '172.31.255.255', '192.168.0.1'],
  'link-local': ['169.254.169.254', 'fe80::1', 'febf::1', 'fe80::1%eth0', 'fe80::1%25eth0'],
  'unique or site-local': ['fc00::1', 'fd00:ec2::254', 'fec0::1'],
  'multicast, broadcast or reserved': ['224.0.0.1', '239.255.255.255', '240.0.0.1', '255.255.255.255', 'ff02::1'],
  'for documentation or benchmarks': [
    '192.0.2.1',
    '198.51.100.1',
    '203.0.113.1',
    '198.18.0.1',
    '2001:db8::1',
    '3fff::1',
  ],
  'protocol assignments': ['192.0.0.170', '192.88.99.1', '192.175.48.1', '2001::1', '2001:2::1', '2620:4f:8000::1'],
  'IPv4-mapped': ['::ffff:127.0.0.1', '::ffff:7f00:1', '::ffff:10.0.0.1', '0:0:0:0:0:ffff:a00:1'],
  'IPv4-compatible': ['::127.0.0.1', '::7f00:1', '::10.0.0.1', '::a9fe:a9fe'],
  'IPv4-translated': ['::ffff:0:127.0.0.1', '::ffff:0:7f00:1'],
  'of NAT64': ['64:ff9b::127.0.0.1', '64:ff9b::7f00:1', '64:ff9b::a00:1', '64:ff9b:1::7f00:1'],
  'of 6to4': ['2002:7f00:1::', '2002:a00:1::1', '2002:a9fe:a9fe::'],
  'outside of the assigned space': ['100::1', '400::1', '1000::1', '4000::1', '5f00::1', '8000::1'],
  'not addresses': [
    '',
    'localhost',
    '127.1',
    '0177.0.0.1',
    '0x7f000001',
    '2130706433',
    '1.1.1.1.',
    '[::1]',
    '1.1.1.1/32',
  ],
}

for (const [kind, addresses] of Object.entries(notPublic)) {
  t.test(`addresses that are ${kind} are not public`, (t) => {
    for (const address of addresses) t.notOk(isPublicAddress(address), address)
    t.end()
  })
}

t.test('a list includes the addresses of its networks, in any notation and zone', (t) => {
  const list = parseNetworks(['10.0.0.0/8', ' 127.0.0.1', 'fd00::/8', 'fe80::1'])
  for (const address of ['10.1.2.3', '127.0.0.1', '::ffff:10.1.2.3', 'FD00::1', 'fe80::1%eth0']) {
    t.ok(includesAddress(list, address), address)
  }
  for (const address of ['11.0.0.1', '127.0.0.2', '::10.0.0.1', 'fe80::2', 'localhost', '', '10.1']) {
    t.notOk(includesAddress(list, address), address)
  }
  for (const invalid of ['', '10.0.0.0/33', '10.1', '::/129', 'fe80::1%eth0', '1.1.1.1/', 'x', '010.0.0.1']) {
    t.throws(() => parseNetworks([invalid]), { message: `'${invalid}' is neither an IP address nor a network` })
  }
  t.end()
})

t.test('only loopback names and addresses are loopback hosts', (t) => {
  for (const host of ['localhost', 'LOCALHOST', '127.0.0.1', '127.8.9.10', '::1']) t.ok(isLoopbackHost(host), host)
  for (const host of ['', '0.0.0.0', '::', '128.0.0.1', 'localhost.example.com', 'my-localhost', '10.0.0.1', '::2']) {
    t.notOk(isLoopbackHost(host), host)
  }
  t.end()
})

t.test('the addresses of one client are one IPv4 address or 64 bits of IPv6', async (t) => {
  for (const [address, network] of [
    ['203.0.113.7', '203.0.113.7'],
    ['::ffff:203.0.113.7', '203.0.113.7'],
    ['2606:4700:12:34:5:6:7:8', '2606:4700:12:34::/64'],
    ['2606:4700::8', '2606:4700:0:0::/64'],
    ['2606::1:2:3:4:5', '2606:0:0:1::/64'],
    ['::1', '0:0:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
  ] as const) {
    t.equal(networkOf(address), network)
  }
})
