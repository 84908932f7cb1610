import { BlockList, isIP } from 'node:net'

/**
 * Parses a list of IP addresses and networks in CIDR notation.
 *
 * @throws TypeError that names the invalid entry
 */
export function parseNetworks(networks: readonly string[]): BlockList {
  const list = new BlockList()
  for (const network of networks) {
    const [, address = '', prefix] = network.trim().match(/^([^/%]+)(?:\/(\d{1,3}))?$/) ?? []
    const bits = { 0: -1, 4: 32, 6: 128 }[isIP(address)] as number
    if (Number(prefix ?? 0) > bits) throw new TypeError(`'${network}' is neither an IP address nor a network`)
    list.addSubnet(address, Number(prefix ?? bits), bits === 32 ? 'ipv4' : 'ipv6')
  }
  return list
}

/** Returns whether a list contains an IP address. The zone of an IPv6 address (`%eth0`) is ignored. */
export function includesAddress(list: BlockList, address: string): boolean {
  const [plain = ''] = address.split('%')
  const version = isIP(plain)
  return version !== 0 && list.check(plain, version === 6 ? 'ipv6' : 'ipv4')
}

// IANA IPv4 Special-Purpose Address Registry, and multicast.
const specialIpv4 = parseNetworks([
  ...['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24'],
  ...['192.0.2.0/24', '192.31.196.0/24', '192.52.193.0/24', '192.88.99.0/24', '192.168.0.0/16', '192.175.48.0/24'],
  ...['198.18.0.0/15', '198.51.100.0/24', '203.0.113.0/24', '224.0.0.0/4', '240.0.0.0/4'],
])

// Addresses outside of this network are not public, among them those that contain an IPv4 address: IPv4-mapped
// (::ffff:0:0/96), IPv4-compatible (::/96) and NAT64 (64:ff9b::/96, 64:ff9b:1::/48).
const globalUnicastIpv6 = parseNetworks(['2000::/3'])
// IANA IPv6 Special-Purpose Address Registry: protocol assignments such as Teredo, documentation, 6to4 and AS112.
const specialIpv6 = parseNetworks(['2001::/23', '2001:db8::/32', '2002::/16', '2620:4f:8000::/48', '3fff::/20'])

/** Returns whether a text is an IP address that belongs to a host on the public internet. */
export function isPublicAddress(address: string): boolean {
  const [plain = ''] = address.split('%')
  if (isIP(plain) === 4) return !specialIpv4.check(plain, 'ipv4')
  return isIP(plain) === 6 && globalUnicastIpv6.check(plain, 'ipv6') && !specialIpv6.check(plain, 'ipv6')
}

/** Returns an address without the prefix of an IPv4 address that a socket for IPv6 has received. */
const withoutMapping = (address: string): string => address.toLowerCase().replace(/^::ffff:(?=\d+\.)/, '')

/** Returns whether an address of a client, as a socket reports it, belongs to this machine. */
export const isLoopbackAddress = (address: string | undefined): boolean =>
  address !== undefined && (address === '127.0.0.1' || includesAddress(loopback, withoutMapping(address)))

const loopback = parseNetworks(['127.0.0.0/8', '::1'])

/** Returns whether a host name or address always leads to this machine. */
export const isLoopbackHost = (host: string): boolean =>
  host.toLowerCase() === 'localhost' || includesAddress(loopback, host)

/**
 * Returns the addresses that one client can use: an IPv4 address, or the first 64 bits of an IPv6 address, because every
 * host gets a network of that size (RFC 4291, section 2.5.4).
 */
export function networkOf(address: string): string {
  const plain = withoutMapping(address.split('%')[0] as string)
  if (isIP(plain) !== 6) return plain
  const [before = [], after = []] = plain.split('::').map((part) => part.split(':').filter(Boolean))
  // The last group may be an IPv4 address, which stands for two groups, but it is not in the first 64 bits.
  const zeros = Array.from({ length: Math.max(0, 8 - before.length - after.length) }, () => '0')
  const groups = plain.includes('::') ? [...before, ...zeros, ...after] : before
  return `${groups.slice(0, 4).join(':')}::/64`
}
