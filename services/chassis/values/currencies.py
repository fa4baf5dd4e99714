"""The currencies money can be held in, each with its minor units.

ISO 4217 also lists what is no money of anybody's account: precious metals, units of account of funds and of unions,
and codes for tests and for no currency. They are left out. The rule `currency` of `realco/type/v1/rules.proto` lists
the same codes; a contract test holds the two together.

Source: ISO 4217, list one, as published on 2026-01-01 by SIX, its maintenance agency.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_IN_WHOLE_UNITS = """
    BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF
"""
_IN_THOUSANDTHS = """
    BHD IQD JOD KWD LYD OMR TND
"""
_IN_HUNDREDTHS = """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP
    CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS
    INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN
    MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE
    SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR
    ZMW ZWG
"""

# Code -> how many decimal digits of its unit an amount has: an amount of 1,234 minor units is 12.34 USD, 1,234 JPY,
# 1.234 KWD.
MINOR_DIGITS: Mapping[str, int] = MappingProxyType(
    {
        code: digits
        for digits, codes in ((0, _IN_WHOLE_UNITS), (2, _IN_HUNDREDTHS), (3, _IN_THOUSANDTHS))
        for code in codes.split()
    }
)
